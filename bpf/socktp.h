/* Backend socktp: the tracepoints that the socket layer fires at the end of each sendmsg and recvmsg (6.3 and later).
 * They have socket and length. Where sent bytes are is known from tcp_sendmsg_locked (6.16 and later); otherwise it is in the
 * saved registers of the system call, if it is one.
 *
 * Cannot see: payload that io_uring and 32-bit programs receive, and before 6.16 payload that they, splice and sendfile
 * send (lengths only); splice from a socket, MSG_ZEROCOPY receive by mmap.
 */
#ifndef MDF_SOCKTP_H
#define MDF_SOCKTP_H

/* Whether this task's file descriptor is this socket. An io_uring completion may run at the end of an unrelated write,
 * and a kernel socket may send inside of one.
 */
static __always_inline bool fd_is(struct task_struct *task, u64 fd, struct sock *sk)
{
	struct fdtable *table = task->files->fdt;
	struct socket *socket = LOAD(struct sock, sk, sk_socket);
	struct file *file;

	if (!socket || fd >= table->max_fds)
		return false;
	file = load_pointer((void *)table->fd + fd * sizeof(file));
	return file && LOAD(struct socket, socket, file) == file;
}

static __always_inline void read_call(struct task_struct *task, struct call *call)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	call->number = regs->orig_ax;
	call->fd = (u32)regs->di;
	call->second = regs->si;
	call->third = regs->dx;
	call->fourth = regs->r10;
	if (task->thread_info.status & TS_COMPAT)
		call->number = ~0ULL;
#elif defined(__TARGET_ARCH_arm64)
	call->number = (u32)regs->syscallno;
	call->fd = (u32)regs->orig_x0;
	call->second = regs->regs[1];
	call->third = regs->regs[2];
	call->fourth = regs->regs[3];
	if (task->thread_info.flags & (1UL << TIF_32BIT))
		call->number = ~0ULL;
#endif
}

/* The message of the send call that ends now, still on the kernel's stack; 0 when it is not known. kTLS and sockmap put
 * their own functions into the socket and hand other messages to TCP, which are gone by now.
 */
static __always_inline u64 sent_message(struct sock *sk, struct entry *entry, u64 task)
{
	u64 msg = entry->send_msg;

	if (!msg || entry->send_tid != (u32)task)
		return 0;
	entry->send_msg = 0;
	return LOAD(struct sock, sk, __sk_common.skc_prot) == LOAD(struct sock, sk, sk_prot_creator) ? msg : 0;
}

static __always_inline int moved(struct sock *sk, u64 id, int len, u32 flags, u8 direction, u32 slot)
{
	struct task_struct *task;
	struct entry *entry;
	struct mdf_data head;
	struct call call;
	enum shape shape;

	if (len <= 0) {
		if (direction == MDF_SENT)
			send_failed(sk);
		return 0;
	}
	if (flags & NOT_OF_STREAM)
		return 0;
	entry = begin_data(&head, sk, len, 0, direction, id, 0, slot);
	if (!entry)
		return 0;
	if (direction == MDF_SENT) {
		u64 msg = sent_message(sk, entry, id);

		if (msg)
			return emit_sent(&head, msg, slot);
	}
	task = bpf_get_current_task_btf();
	read_call(task, &call);
	shape = call_shape(call.number, direction);
	if (shape == SHAPE_NONE || flags & MSG_TRUNC || !fd_is(task, call.fd, sk)) {
		head.cut = MDF_CUT_NOT_VISIBLE;
		emit_bare(&head);
		return 0;
	}
	if (direction == MDF_SENT)
		mark_urgent(&head, call_flags(&call));
	emit_call(&head, entry, &call, shape, direction == MDF_RECEIVED && !(flags & MSG_DONTWAIT), slot);
	return 0;
}

static __always_inline int if_selected(u64 sk, int len, u32 flags, u8 direction, u32 slot)
{
	struct task_struct *current = current_task();
	u64 id = current_id(current);

	if (!select_task(current, id >> 32))
		return 0;
	return moved((struct sock *)sk, id, len, flags, direction, slot);
}

/* (sk, length or error, flags) */
SEC("raw_tp/sock_send_length")
int socktp_sent(struct bpf_raw_tracepoint_args *ctx)
{
	return if_selected(ctx->args[0], ctx->args[1], ctx->args[2], MDF_SENT, SLOT_SEND);
}

/* (sk, length or error, flags) */
SEC("raw_tp/sock_recv_length")
int socktp_received(struct bpf_raw_tracepoint_args *ctx)
{
	return if_selected(ctx->args[0], ctx->args[1], ctx->args[2], MDF_RECEIVED, SLOT_RECEIVE);
}

SEC("tp/sock/sock_send_length")
int socktp_sent_nopreempt(struct trace_event_raw_sock_msg_length *ctx)
{
	return if_selected((u64)ctx->sk, ctx->ret, ctx->flags, MDF_SENT, SLOT_SEND);
}

SEC("tp/sock/sock_recv_length")
int socktp_received_nopreempt(struct trace_event_raw_sock_msg_length *ctx)
{
	return if_selected((u64)ctx->sk, ctx->ret, ctx->flags, MDF_RECEIVED, SLOT_RECEIVE);
}

#endif
