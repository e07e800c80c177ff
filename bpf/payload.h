/* Reading payload from vectors of segments. */
#ifndef MDF_PAYLOAD_H
#define MDF_PAYLOAD_H

/* Segments of a vector that are looked at. */
#define MAX_SEGMENTS 512
/* Steps of the loop that copies them: a segment longer than a chunk takes several. */
#define MAX_STEPS (MAX_SEGMENTS + MDF_MAX_SNAPLEN / CHUNK)

/* Where a vector is, and where its segments are. */
enum memory {
	USER_IN_USER, /* struct iovec as the program gave it */
	USER_IN_KERNEL, /* the kernel's copy of it */
	KERNEL_IN_KERNEL, /* struct kvec */
	PAGES_IN_KERNEL, /* struct bio_vec */
};

/* struct iovec and struct kvec: user ABI, alike on all 64-bit machines; struct bio_vec has the same size. */
struct segment {
	u64 base;
	u64 len;
};

#define PAGE_SHIFT 12

/* The kernel's address of a page; 0 when it is not known (not x86-64, or its addresses are hidden). */
static __always_inline u64 page_address(u64 page)
{
	u64 map = pages.vmemmap, memory = pages.page_offset;

	if (pages.vmemmap_base)
		bpf_probe_read_kernel(&map, sizeof(map), (void *)pages.vmemmap_base);
	if (pages.page_offset_base)
		bpf_probe_read_kernel(&memory, sizeof(memory), (void *)pages.page_offset_base);
	if (!map || page < map)
		return 0;
	return memory + ((page - map) / bpf_core_type_size(struct page) << PAGE_SHIFT);
}

static __always_inline long read_segment(struct segment *segment, u64 at, u32 kind)
{
	struct bio_vec *pages = (struct bio_vec *)at;
	u64 address;

	if (kind == USER_IN_USER)
		return bpf_probe_read_user(segment, sizeof(*segment), (void *)at);
	if (kind != PAGES_IN_KERNEL) {
		segment->base = (u64)LOAD(struct iovec, (void *)at, iov_base);
		segment->len = LOAD(struct iovec, (void *)at, iov_len);
		return 0;
	}
	address = page_address((u64)BPF_CORE_READ(pages, bv_page));
	segment->base = address + BPF_CORE_READ(pages, bv_offset);
	segment->len = BPF_CORE_READ(pages, bv_len);
	return address ? 0 : -1;
}

/* Copies one chunk into the scratch record of this slot. Not 0: there is nothing more to do. A global function, so that
 * the verifier looks at it once and not once per step.
 */
__noinline int gather_step(u32 slot)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct segment segment;
	u64 off, length;
	long failed;

	if (!scratch)
		return 1;
	off = scratch->off;
	if (!scratch->count || off >= scratch->want)
		return 1;
	if (read_segment(&segment, scratch->vector, scratch->kind))
		goto fault;
	/* Empty. */
	if (segment.len <= scratch->skip)
		goto next;
	length = segment.len - scratch->skip;
	if (length > scratch->want - off)
		length = scratch->want - off;
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(length) : "i"(CHUNK));
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(off) : "i"(MDF_MAX_SNAPLEN));
	if (scratch->kind <= USER_IN_KERNEL)
		failed = bpf_probe_read_user(scratch->payload + off, length, (void *)(segment.base + scratch->skip));
	else
		failed = bpf_probe_read_kernel(scratch->payload + off, length, (void *)(segment.base + scratch->skip));
	if (failed)
		goto fault;
	scratch->off += length;
	scratch->skip += length;
	if (scratch->skip < segment.len)
		return 0;
next:
	scratch->vector += sizeof(segment);
	scratch->count--;
	scratch->skip = 0;
	return 0;
fault:
	scratch->head.cut = MDF_CUT_PAGE_FAULT;
	return 1;
}

/* A data record with payload from a vector of count segments, beginning skip bytes into the first. */
static __noinline int emit_vector(const struct mdf_data *head, const struct scratch_start *start, u32 slot)
{
	struct scratch *scratch;
	struct segment first;
	u32 want = head->captured;
	u64 size;

	/* Nearly always all that is needed is in the first segment. */
	if (start->count && !read_segment(&first, start->vector, start->kind) && first.len >= start->skip + want) {
		if (start->kind <= USER_IN_KERNEL)
			return emit_user(head, (void *)(first.base + start->skip));
		return emit_kernel(head, (void *)(first.base + start->skip));
	}
	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	scratch->head = *head;
	scratch->vector = start->vector;
	scratch->skip = start->skip;
	scratch->count = start->count < MAX_SEGMENTS ? start->count : MAX_SEGMENTS;
	scratch->kind = start->kind;
	scratch->want = want;
	scratch->off = 0;
	for (u32 step = 0; step < MAX_STEPS; step++) {
		if (gather_step(slot))
			break;
	}
	size = scratch->off;
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(size) : "i"(MDF_MAX_SNAPLEN));
	if (size < want) {
		if (scratch->head.cut != MDF_CUT_PAGE_FAULT)
			scratch->head.cut = MDF_CUT_SEGMENTS;
		else if (start->kind == PAGES_IN_KERNEL)
			scratch->head.cut = MDF_CUT_KERNEL_PAGES;
		else
			count_loss(MDF_LOSS_PAGE_FAULT, head->len - size);
	}
	scratch->head.captured = size;
	output(&scratch->head, sizeof(scratch->head) + size, head->len, wakeup_flag(0));
	return 0;
}

#endif
