/* Getting a record into the ring, and counting what does not get there. */
#ifndef MDF_EMIT_H
#define MDF_EMIT_H

static __always_inline void count_loss(u32 reason, u64 bytes)
{
	struct mdf_count *count = bpf_map_lookup_elem(&losses, &reason);

	if (count) {
		count->events++;
		count->bytes += bytes;
	}
}

/* Wake the reader only by the record that crosses the mark: waking on each record above it would cost more than the
 * record, and the reader looks by itself every few milliseconds anyway. The default flag must never be mixed in:
 * it stalls a reader that lags behind records without wakeup.
 */
static __always_inline u64 wakeup_flag(u64 size)
{
	u64 held = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (held >= config.wakeup_bytes && held - size < config.wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void submit(void *record, u64 size)
{
	bpf_ringbuf_submit(record, wakeup_flag(size + 8));
}

/* For records that were built in other memory. Returns whether there was room. */
static __always_inline bool output(void *record, u64 size, u64 bytes, u64 wakeup)
{
	if (!bpf_ringbuf_output(&ring, record, size, wakeup))
		return true;
	count_loss(MDF_LOSS_RING_FULL, bytes);
	return false;
}

#define RESERVE(type)                                                                                                  \
	({                                                                                                             \
		type *reserved = bpf_ringbuf_reserve(&ring, sizeof(type), 0);                                          \
		if (!reserved)                                                                                         \
			count_loss(MDF_LOSS_RING_FULL, 0);                                                             \
		reserved;                                                                                              \
	})

/* One data record with payload from one piece of memory. size is a constant, want <= size. All of the record is
 * written: the upper half by zeros (want is above half the class, except in the smallest), the rest by the copy,
 * which also writes zeros where it fails.
 */
static __always_inline void emit_class(const struct mdf_data *head, const void *from, u32 want, const u32 size,
				       const bool smallest, const bool kernel)
{
	struct mdf_data *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + size, 0);
	u64 length = want;
	u8 *payload;
	long failed;

	if (!record) {
		count_loss(MDF_LOSS_RING_FULL, head->len);
		return;
	}
	*record = *head;
	payload = (u8 *)(record + 1);
	if (smallest)
		__builtin_memset(payload, 0, size);
	else if (size <= 1024)
		__builtin_memset(payload + size / 2, 0, size / 2);
	else
		bpf_probe_read_kernel(payload + size / 2, size / 2, zeros);
	/* The compiler must not forget the bound, nor test another copy of the register than it uses. */
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(length) : "i"(size));
	if (kernel)
		failed = bpf_probe_read_kernel(payload, length, from);
	else
		failed = bpf_probe_read_user(payload, length, from);
	if (failed) {
		record->captured = 0;
		record->cut = MDF_CUT_PAGE_FAULT;
		count_loss(MDF_LOSS_PAGE_FAULT, head->len);
	}
	submit(record, sizeof(*record) + size);
}

/* head->captured bytes of payload from one piece of memory. */
static __always_inline void emit_flat(const struct mdf_data *head, const void *from, const bool kernel)
{
	u32 want = head->captured;

	if (want <= 64)
		emit_class(head, from, want, 64, true, kernel);
	else if (want <= 128)
		emit_class(head, from, want, 128, false, kernel);
	else if (want <= 256)
		emit_class(head, from, want, 256, false, kernel);
	else if (want <= 512)
		emit_class(head, from, want, 512, false, kernel);
	else if (want <= 1024)
		emit_class(head, from, want, 1024, false, kernel);
	else if (want <= 2048)
		emit_class(head, from, want, 2048, false, kernel);
	else if (want <= 4096)
		emit_class(head, from, want, 4096, false, kernel);
	else if (want <= 8192)
		emit_class(head, from, want, 8192, false, kernel);
	else
		emit_class(head, from, want, 16384, false, kernel);
}

static __noinline int emit_kernel(const struct mdf_data *head, const void *from)
{
	emit_flat(head, from, true);
	return 0;
}

static __noinline int emit_user(const struct mdf_data *head, const void *from)
{
	emit_flat(head, from, false);
	return 0;
}

/* Bytes went over, but their content is not known. */
static __noinline int emit_bare(const struct mdf_data *head)
{
	struct mdf_data *record = RESERVE(struct mdf_data);

	if (record) {
		*record = *head;
		record->captured = 0;
		submit(record, sizeof(*record));
	}
	return 0;
}

#endif
