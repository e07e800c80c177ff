/* Finding the payload of a call and writing the data record. */
#ifndef MDF_PAYLOAD_H
#define MDF_PAYLOAD_H

/* Segments of a vector that are looked at. */
#define MAX_SEGMENTS 64
/* Steps of the loop that copies them: a segment longer than a chunk takes several. */
#define MAX_STEPS (MAX_SEGMENTS + MDF_MAX_SNAPLEN / CHUNK)

/* struct iovec and struct kvec: user ABI, alike on all 64-bit machines. */
struct segment {
	u64 base;
	u64 len;
};

/* struct user_msghdr and struct mmsghdr of the user ABI, 64 bits. */
struct message {
	u64 name;
	u64 name_len;
	u64 vector;
	u64 count;
	u64 control;
	u64 control_len;
	u64 flags;
};
struct many_message {
	struct message message;
	u64 len;
};

/* What a data event says beside its payload. want: payload bytes that are worth reading. */
static __always_inline u32 fill_data(struct mdf_data *head, struct entry *entry, u8 direction, u64 now, u64 task,
				     u32 pos, u32 len)
{
	u32 want = len;

	head->kind = MDF_DATA;
	head->direction = direction;
	head->cut = MDF_CUT_WHOLE;
	if (want > config.snaplen) {
		want = config.snaplen;
		head->cut = MDF_CUT_SNAPLEN;
	}
	head->captured = want;
	head->time = now;
	head->id = entry->id;
	head->cgroup = bpf_get_current_cgroup_id();
	head->pos = pos;
	head->len = len;
	head->pid = task >> 32;
	head->tid = task;
	return want;
}

/* Copies one chunk of a user vector into the scratch record of this slot. Not 0: there is nothing more to do. A global
 * function, so that the verifier looks at it once and not once per step.
 */
__noinline int gather_step(u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct segment segment;
	u64 off, length;

	if (!scratch)
		return 1;
	off = scratch->off;
	if (scratch->index >= scratch->count || off >= scratch->want)
		return 1;
	if (bpf_probe_read_user(&segment, sizeof(segment), (void *)scratch->vector + scratch->index * sizeof(segment)))
		goto fault;
	/* Empty. */
	if (segment.len <= scratch->skip) {
		scratch->index++;
		scratch->skip = 0;
		return 0;
	}
	length = segment.len - scratch->skip;
	if (length > scratch->want - off)
		length = scratch->want - off;
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(length) : "i"(CHUNK));
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(off) : "i"(MDF_MAX_SNAPLEN));
	if (bpf_probe_read_user(scratch->payload + off, length, (void *)(segment.base + scratch->skip)))
		goto fault;
	scratch->off += length;
	scratch->skip += length;
	if (scratch->skip == segment.len) {
		scratch->index++;
		scratch->skip = 0;
	}
	return 0;
fault:
	scratch->head.cut = MDF_CUT_PAGE_FAULT;
	return 1;
}

/* A data record with payload from a user vector. */
static __noinline int emit_vector(const struct mdf_data *head, u64 vector, u32 count, u32 slot)
{
	struct scratch *scratch;
	struct segment first;
	u32 want = head->captured;
	u64 size;

	/* Nearly always all that is wanted lies in the first segment. */
	if (count && !bpf_probe_read_user(&first, sizeof(first), (void *)vector) && first.len >= want)
		return emit_user(head, (void *)first.base);

	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	scratch->head = *head;
	scratch->vector = vector;
	scratch->count = count < MAX_SEGMENTS ? count : MAX_SEGMENTS;
	scratch->want = want;
	scratch->off = 0;
	scratch->index = 0;
	scratch->skip = 0;
	for (u32 step = 0; step < MAX_STEPS; step++) {
		if (gather_step(slot))
			break;
	}
	size = scratch->off;
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(size) : "i"(MDF_MAX_SNAPLEN));
	if (size < want) {
		if (scratch->head.cut == MDF_CUT_PAGE_FAULT)
			count_loss(MDF_LOSS_PAGE_FAULT, head->len - size);
		else
			scratch->head.cut = MDF_CUT_SEGMENTS;
	}
	scratch->head.captured = size;
	output(&scratch->head, sizeof(scratch->head) + size, head->len);
	return 0;
}

#endif
