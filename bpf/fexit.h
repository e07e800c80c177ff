/* Backend fexit: programs at the return of the socket functions of TCP over IPv4 and IPv6 (x86-64: 5.10 and later, where
 * the kernel allows tracing programs). All that move bytes come through them: system calls, io_uring, sendfile and
 * splice, kTLS (plaintext), MPTCP.
 *
 * Cannot see: payload that is spliced out of a socket, and payload in pages on other machines than x86-64 (lengths
 * only); receiving by mmap (TCP_ZEROCOPY_RECEIVE); sockets that are read inside the kernel without recvmsg.
 */
#ifndef MDF_FEXIT_H
#define MDF_FEXIT_H

static __always_inline int returned(struct socket *socket, struct msghdr *msg, int len, u32 flags, u8 direction,
				    u32 slot)
{
	u64 task = bpf_get_current_pid_tgid();
	struct sock *sk = BPF_CORE_READ(socket, sk);
	struct mdf_data head;

	if (len <= 0) {
		if (direction == MDF_SENT)
			send_failed(sk);
		return 0;
	}
	if (flags & NOT_OF_STREAM)
		return 0;
	if (!begin_data(&head, sk, len, 0, direction, task, bpf_ktime_get_boot_ns(), slot))
		return 0;
	if (flags & MSG_TRUNC) {
		head.cut = MDF_CUT_NOT_VISIBLE;
		return emit_bare(&head);
	}
	return direction == MDF_SENT ? emit_sent(&head, (u64)msg, slot) : emit_message(&head, (u64)msg, slot);
}

/* A program's arguments as plain numbers: shared helpers take kernel addresses as such. */
static __always_inline u64 argument(void *ctx, u32 index)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx + index * sizeof(u64));
	return value;
}

/* (socket, msg, size) -> length */
static __always_inline int sent_ctx(void *ctx, u32 slot)
{
	return IF_SELECTED(returned((struct socket *)argument(ctx, 0), (struct msghdr *)argument(ctx, 1), argument(ctx, 3), 0,
			      MDF_SENT, slot));
}

/* (socket, msg, size, flags) -> length */
static __always_inline int received_ctx(void *ctx, u32 slot)
{
	return IF_SELECTED(returned((struct socket *)argument(ctx, 0), (struct msghdr *)argument(ctx, 1), argument(ctx, 4),
			      argument(ctx, 3), MDF_RECEIVED, slot));
}

SEC("fexit/inet_sendmsg")
int fexit_sent4(void *ctx)
{
	return sent_ctx(ctx, SLOT_SEND);
}

SEC("fexit/inet6_sendmsg")
int fexit_sent6(void *ctx)
{
	return sent_ctx(ctx, SLOT_SEND6);
}

SEC("fexit/inet_recvmsg")
int fexit_received4(void *ctx)
{
	return received_ctx(ctx, SLOT_RECEIVE);
}

SEC("fexit/inet6_recvmsg")
int fexit_received6(void *ctx)
{
	return received_ctx(ctx, SLOT_RECEIVE6);
}

static __noinline int emit_page(struct mdf_data *head, u64 page, u64 offset)
{
	u64 address = page_address(page);

	if (address)
		return emit_kernel(head, (void *)(address + offset));
	head->cut = MDF_CUT_KERNEL_PAGES;
	return emit_bare(head);
}

/* Bytes from one page: (sk, page, offset, size, …) -> length */
static __always_inline int page_sent(struct sock *sk, u64 page, u64 offset, int len, u32 slot)
{
	u64 task = bpf_get_current_pid_tgid();
	struct mdf_data head;

	if (len <= 0)
		return 0;
	if (!begin_data(&head, sk, len, 0, MDF_SENT, task, bpf_ktime_get_boot_ns(), slot))
		return 0;
	return emit_page(&head, page, offset);
}

/* sendfile and splice into a socket before 6.5 (commit dc97391e6610), which sends pages through sendmsg. */
SEC("fexit/tcp_sendpage")
int fexit_page_sent(void *ctx)
{
	return IF_SELECTED(page_sent((struct sock *)argument(ctx, 0), argument(ctx, 1), (u32)argument(ctx, 2),
			       argument(ctx, 5), SLOT_PAGE));
}

/* Bytes from a socket into a pipe: (socket, pos, pipe, size, flags) -> length */
static __always_inline int spliced(struct socket *socket, int len)
{
	u64 task = bpf_get_current_pid_tgid();
	struct mdf_data head;

	if (len <= 0)
		return 0;
	if (!begin_data(&head, BPF_CORE_READ(socket, sk), len, 0, MDF_RECEIVED, task, bpf_ktime_get_boot_ns(), SLOT_SPLICE))
		return 0;
	head.cut = MDF_CUT_KERNEL_PAGES;
	return emit_bare(&head);
}

SEC("fexit/tcp_splice_read")
int fexit_spliced(void *ctx)
{
	return IF_SELECTED(spliced((struct socket *)argument(ctx, 0), argument(ctx, 5)));
}

/* Before 6.16 there is no tracepoint at the beginning of a send. (sk, msg, …) */
SEC("fentry/tcp_sendmsg_locked")
int fentry_send_began(void *ctx)
{
	u64 task = bpf_get_current_pid_tgid();

	if (!select_current(task >> 32))
		return 0;
	return send_begins((struct sock *)argument(ctx, 0), argument(ctx, 1), task);
}

#endif
