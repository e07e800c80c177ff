/* The payload of a struct iov_iter that has been used: it is positioned after the last byte, so step back. */
#ifndef MDF_ITER_H
#define MDF_ITER_H

/* Goes one segment back in the scratch record of this slot. Not 0: the start is found, or cannot be. */
__noinline int rewind_step(u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct segment segment;

	if (!scratch)
		return 1;
	scratch->vector -= sizeof(segment);
	scratch->count++;
	if (read_segment(&segment, scratch->vector, scratch->kind)) {
		scratch->count = 0;
		return 1;
	}
	if (segment.len >= scratch->want) {
		scratch->skip = segment.len - scratch->want;
		scratch->want = 0;
		return 1;
	}
	scratch->want -= segment.len;
	return 0;
}

/* Which of our kinds an iterator is; -1 for those whose memory cannot be read. */
static __always_inline int iter_kind(struct iov_iter *iter, bool *flat)
{
	struct iov_iter___type *old = (void *)iter;
	u32 type;

	*flat = false;
	if (bpf_core_field_exists(old->type))
		type = BPF_CORE_READ(old, type) & ~1;
	else
		type = LOAD(struct iov_iter, iter, iter_type);
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		*flat = true;
		return USER_IN_KERNEL;
	}
	if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC))
		return USER_IN_KERNEL;
	if (type == bpf_core_enum_value(enum iter_type, ITER_KVEC))
		return KERNEL_IN_KERNEL;
	if (type == bpf_core_enum_value(enum iter_type, ITER_BVEC))
		return PAGES_IN_KERNEL;
	return -1;
}

static __always_inline u64 iter_vector(struct iov_iter *iter, int kind)
{
	struct iov_iter___iov *old = (void *)iter;

	if (kind == KERNEL_IN_KERNEL)
		return (u64)BPF_CORE_READ(iter, kvec);
	if (kind == PAGES_IN_KERNEL)
		return (u64)BPF_CORE_READ(iter, bvec);
	if (bpf_core_field_exists(old->iov))
		return (u64)BPF_CORE_READ(old, iov);
	return (u64)LOAD(struct iov_iter, iter, __iov);
}

/* Writes the data record for the head->len bytes that went through this iterator last. */
static __noinline int emit_iter(struct mdf_data *head, struct iov_iter *iter, u32 slot)
{
	struct scratch_start start = {};
	struct scratch *scratch;
	u64 offset = LOAD(struct iov_iter, iter, iov_offset);
	u64 length = head->len;
	bool flat;
	int kind = iter_kind(iter, &flat);

	if (kind < 0) {
		head->cut = MDF_CUT_KERNEL_PAGES;
		return emit_bare(head);
	}
	if (flat) {
		if (bpf_core_field_exists(iter->ubuf))
			emit_user(head, LOAD(struct iov_iter, iter, ubuf) + offset - length);
		return 0;
	}
	start.vector = iter_vector(iter, kind);
	start.kind = kind;
	if (offset >= length) {
		start.skip = offset - length;
		start.count = 1;
		return emit_vector(head, &start, slot);
	}
	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	scratch->vector = start.vector;
	scratch->kind = kind;
	scratch->count = offset ? 1 : 0;
	scratch->want = length - offset;
	for (u32 step = 0; step < MAX_SEGMENTS; step++) {
		if (rewind_step(slot))
			break;
	}
	if (!scratch->count || scratch->want) {
		head->cut = scratch->count ? MDF_CUT_SEGMENTS : MDF_CUT_KERNEL_PAGES;
		return emit_bare(head);
	}
	start.vector = scratch->vector;
	start.skip = scratch->skip;
	start.count = scratch->count;
	return emit_vector(head, &start, slot);
}

/* The same for the iterator of a struct msghdr. */
static __always_inline int emit_message(struct mdf_data *head, u64 msg, u32 slot)
{
	return emit_iter(head, (struct iov_iter *)(msg + bpf_core_field_offset(((struct msghdr *)0)->msg_iter)), slot);
}

/* For a message that was sent. */
static __always_inline int emit_sent(struct mdf_data *head, u64 msg, u32 slot)
{
	mark_urgent(head, LOAD(struct msghdr, (void *)msg, msg_flags));
	return emit_message(head, msg, slot);
}

#endif
