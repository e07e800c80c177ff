/* Backend kprobe: probes on the socket functions, for kernels that have kprobes but refuse tracing programs.
 *
 * Receiving is read where TCP tidies up after copying (tcp_cleanup_rbuf), not at the return: each thread that waits in
 * recv would occupy a kretprobe, and there are few of them. Sending is read at the return; how many returns were missed
 * is counted.
 *
 * Cannot see: what fexit cannot, sendfile and splice from a socket (lengths only), and sends that return while all
 * kretprobes are taken (counted as missed).
 */
#ifndef MDF_KPROBE_H
#define MDF_KPROBE_H

enum call_kind {
	CALL_MESSAGE,
	CALL_PAGE, /* msg is a page, flags its offset */
	CALL_SPLICE, /* no msg */
};

static __always_inline int call_begins(struct sock *sk, void *msg, u32 flags, u32 kind, bool receive)
{
	u64 task = bpf_get_current_pid_tgid();
	struct inflight call = {};
	u64 key = task << 1 | receive;

	call.sk = (u64)sk;
	call.msg = (u64)msg;
	call.time = bpf_ktime_get_boot_ns();
	call.flags = flags;
	call.kind = kind;
	if (bpf_map_update_elem(&inflights, &key, &call, BPF_ANY))
		count_loss(MDF_LOSS_MAP_FULL, 0);
	return 0;
}

static __always_inline struct inflight *call_in_progress(u64 task, bool receive)
{
	u64 key = task << 1 | receive;

	return bpf_map_lookup_elem(&inflights, &key);
}

/* (socket, msg, size) */
static __always_inline int send_call(struct pt_regs *ctx)
{
	struct socket *socket = (struct socket *)PT_REGS_PARM1(ctx);

	return call_begins(BPF_CORE_READ(socket, sk), (void *)PT_REGS_PARM2(ctx), 0, CALL_MESSAGE, false);
}

SEC("kprobe/inet_sendmsg")
int kprobe_send4(struct pt_regs *ctx)
{
	return IF_SELECTED(send_call(ctx));
}

SEC("kprobe/inet6_sendmsg")
int kprobe_send6(struct pt_regs *ctx)
{
	return IF_SELECTED(send_call(ctx));
}

static __always_inline int send_returned(struct pt_regs *ctx, u32 slot)
{
	u64 task = bpf_get_current_pid_tgid();
	int len = PT_REGS_RC(ctx);
	struct inflight *call;
	struct mdf_data head;
	u64 key = task << 1;

	call = call_in_progress(task, false);
	if (!call)
		return 0;
	if (len > 0 && begin_data(&head, (struct sock *)call->sk, len, 0, MDF_SENT, task, call->time, slot)) {
		if (call->kind == CALL_PAGE)
			emit_page(&head, call->msg, call->flags);
		else
			emit_sent(&head, call->msg, slot);
	}
	bpf_map_delete_elem(&inflights, &key);
	return 0;
}

SEC("kretprobe/inet_sendmsg")
int kprobe_sent4(struct pt_regs *ctx)
{
	return IF_SELECTED(send_returned(ctx, SLOT_SEND));
}

SEC("kretprobe/inet6_sendmsg")
int kprobe_sent6(struct pt_regs *ctx)
{
	return IF_SELECTED(send_returned(ctx, SLOT_SEND6));
}

/* Before 6.5: (sk, page, offset, size, flags) */
static __always_inline int kprobe_page_send_one(struct pt_regs *ctx)
{
	return call_begins((struct sock *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx), CALL_PAGE,
			   false);
}

SEC("kprobe/tcp_sendpage")
int kprobe_page_send(struct pt_regs *ctx)
{
	return IF_SELECTED(kprobe_page_send_one(ctx));
}

SEC("kretprobe/tcp_sendpage")
int kprobe_page_sent(struct pt_regs *ctx)
{
	return IF_SELECTED(send_returned(ctx, SLOT_PAGE));
}

/* (socket, msg, size, flags) */
static __always_inline int receive_call(struct pt_regs *ctx)
{
	struct socket *socket = (struct socket *)PT_REGS_PARM1(ctx);

	return call_begins(BPF_CORE_READ(socket, sk), (void *)PT_REGS_PARM2(ctx), PT_REGS_PARM4(ctx), CALL_MESSAGE,
			   true);
}

SEC("kprobe/inet_recvmsg")
int kprobe_receive4(struct pt_regs *ctx)
{
	return IF_SELECTED(receive_call(ctx));
}

SEC("kprobe/inet6_recvmsg")
int kprobe_receive6(struct pt_regs *ctx)
{
	return IF_SELECTED(receive_call(ctx));
}

/* (socket, pos, pipe, size, flags) */
static __always_inline int kprobe_splice_one(struct pt_regs *ctx)
{
	struct socket *socket = (struct socket *)PT_REGS_PARM1(ctx);

	return call_begins(BPF_CORE_READ(socket, sk), NULL, 0, CALL_SPLICE, true);
}

SEC("kprobe/tcp_splice_read")
int kprobe_splice(struct pt_regs *ctx)
{
	return IF_SELECTED(kprobe_splice_one(ctx));
}

/* (sk, bytes copied so far in this call); also called before a wait for more. Under kTLS not in this call's bytes. */
static __always_inline int kprobe_received_one(struct pt_regs *ctx)
{
	struct sock *sk = (struct sock *)PT_REGS_PARM1(ctx);
	int copied = PT_REGS_PARM2(ctx);
	u64 task = bpf_get_current_pid_tgid();
	struct inflight *call;
	struct mdf_data head;
	u32 len;

	if (copied <= 0)
		return 0;
	call = call_in_progress(task, true);
	if (!call || call->sk != (u64)sk || call->flags & NOT_OF_STREAM)
		return 0;
	/* A splice tidies up once per pipeful. */
	if (call->kind == CALL_SPLICE)
		call->done = 0;
	if (copied <= call->done)
		return 0;
	len = copied - call->done;
	call->done = copied;
	if (!begin_data(&head, sk, len, 0, MDF_RECEIVED, task, bpf_ktime_get_boot_ns(), SLOT_RECEIVE))
		return 0;
	if (call->kind == CALL_SPLICE || call->flags & MSG_TRUNC) {
		head.cut = call->kind == CALL_SPLICE ? MDF_CUT_KERNEL_PAGES : MDF_CUT_NOT_VISIBLE;
		return emit_bare(&head);
	}
	return emit_message(&head, call->msg, SLOT_RECEIVE);
}

SEC("kprobe/tcp_cleanup_rbuf")
int kprobe_received(struct pt_regs *ctx)
{
	return IF_SELECTED(kprobe_received_one(ctx));
}

#endif
