/* Backend systp: the tracepoint at the exit of all system calls, for kernels that have nothing better. Costs every system
 * call of the host a little.
 *
 * Cannot see: io_uring (neither payload nor lengths), payload of sendfile and splice (lengths only), 32-bit programs, and
 * what kernel threads send and receive. Sends are stamped when they return.
 */
#ifndef MDF_SYSTP_H
#define MDF_SYSTP_H

#if defined(__TARGET_ARCH_x86)
#define NR_SENDFILE 40
#define NR_SPLICE 275
#elif defined(__TARGET_ARCH_arm64)
#define NR_SENDFILE 71
#define NR_SPLICE 76
#endif

/* Messages of one sendmmsg or recvmmsg that are looked at. */
#define MAX_MANY 64

/* The TCP socket of a file descriptor; NULL when it is something else. */
static __noinline struct sock *fd_sock(u64 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct socket *socket;
	struct file *file = NULL;
	struct sock *sk;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	if (!file)
		return NULL;
	/* Only a socket's private data points back at the file. */
	socket = BPF_CORE_READ(file, private_data);
	if (!socket || BPF_CORE_READ(socket, file) != file)
		return NULL;
	sk = BPF_CORE_READ(socket, sk);
	return sk && is_tcp(sk) ? sk : NULL;
}

/* Small: 512 bytes of stack are all that there is for a chain of calls, and this is on it twice. */
struct result {
	struct sock *sk;
	struct scratch_start start;
	u32 len;
	u32 after;
	u32 flags; /* MSG_… */
	u8 direction;
	u8 cut;
	u8 flat; /* start.vector is the payload, and no vector */
	u8 pad;
};

static __noinline int emit_returned(const struct result *result)
{
	u64 task = bpf_get_current_pid_tgid();
	struct mdf_data head;

	if (!begin_data(&head, result->sk, result->len, result->after, result->direction & 1, task,
			bpf_ktime_get_boot_ns(), SLOT_SEND))
		return 0;
	if (result->cut != MDF_CUT_WHOLE) {
		head.cut = result->cut;
		return emit_bare(&head);
	}
	if (result->direction == MDF_RECEIVED && result->flags & MSG_TRUNC) {
		head.cut = MDF_CUT_NOT_VISIBLE;
		return emit_bare(&head);
	}
	if (result->direction == MDF_SENT)
		mark_urgent(&head, result->flags);
	if (result->flat)
		return emit_user(&head, (void *)result->start.vector);
	return emit_vector(&head, &result->start, SLOT_SEND);
}

/* One message of a sendmmsg or recvmmsg. A global function, because there may be many. */
__noinline int many_step(u32 slot)
{
	struct result result = { .start.kind = USER_IN_USER };
	struct many_message *message;
	struct many *many;
	u32 zero = 0;
	u32 len = 0;

	many = bpf_map_lookup_elem(&manies, &zero);
	if (!many)
		return 0;
	message = (struct many_message *)many->at;
	bpf_probe_read_user(&len, sizeof(len), &message->len);
	if (!len || len > many->left || read_message(&message->message, &result.start))
		return 0;
	many->left -= len;
	many->at += sizeof(*message);
	result.sk = (struct sock *)many->sk;
	result.len = len;
	result.after = many->left;
	result.direction = many->direction;
	result.flags = many->flags;
	return emit_returned(&result);
}

static __noinline int many_returned(struct sock *sk, u64 at, u64 count, u8 direction, u32 flags)
{
	struct many *many;
	u32 zero = 0;
	u32 total = 0;

	for (u32 i = 0; i < MAX_MANY; i++) {
		u32 len = 0;

		if (i >= count)
			break;
		bpf_probe_read_user(&len, sizeof(len),
				    (void *)(at + i * sizeof(struct many_message) + sizeof(struct message)));
		total += len;
	}
	many = bpf_map_lookup_elem(&manies, &zero);
	if (!many)
		return 0;
	many->sk = (u64)sk;
	many->at = at;
	many->left = total;
	many->direction = direction;
	many->flags = flags;
	for (u32 i = 0; i < MAX_MANY; i++) {
		if (i >= count)
			break;
		many_step(0);
	}
	return 0;
}

static __always_inline int call_returned(struct pt_regs *regs, long returned)
{
	struct result result = { .direction = MDF_SENT, .start.kind = USER_IN_USER };
	struct call call;
	enum shape shape;

#if defined(__TARGET_ARCH_x86)
	call.number = BPF_CORE_READ(regs, orig_ax);
	call.fd = (u32)BPF_CORE_READ(regs, di);
	call.second = BPF_CORE_READ(regs, si);
	call.third = BPF_CORE_READ(regs, dx);
	call.fourth = BPF_CORE_READ(regs, r10);
	if (BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_info.status) & TS_COMPAT)
		return 0;
#elif defined(__TARGET_ARCH_arm64)
	call.number = (u32)BPF_CORE_READ(regs, syscallno);
	call.fd = (u32)BPF_CORE_READ(regs, orig_x0);
	call.second = BPF_CORE_READ(regs, regs[1]);
	call.third = BPF_CORE_READ(regs, regs[2]);
	call.fourth = BPF_CORE_READ(regs, regs[3]);
	if (BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_info.flags) & (1UL << TIF_32BIT))
		return 0;
#endif
	result.len = returned;
	shape = call_shape(call.number, MDF_SENT);
	if (shape == SHAPE_NONE) {
		shape = call_shape(call.number, MDF_RECEIVED);
		if (shape != SHAPE_NONE)
			result.direction = MDF_RECEIVED;
		else if (call.number != NR_SENDFILE && call.number != NR_SPLICE)
			return 0;
	}
	result.sk = fd_sock(call.fd);
	if (call.number == NR_SPLICE) {
		/* (fd in, offset, fd out, …): one of the two is a pipe. */
		if (result.sk)
			result.direction = MDF_RECEIVED;
		else
			result.sk = fd_sock((u32)call.third);
	}
	if (!result.sk)
		return 0;
	result.flags = call_flags(&call);
	if (result.direction == MDF_RECEIVED && result.flags & NOT_OF_STREAM)
		return 0;
	if (shape == SHAPE_MANY)
		return many_returned(result.sk, call.second, returned, result.direction, result.flags);
	if (shape == SHAPE_NONE) {
		result.cut = MDF_CUT_KERNEL_PAGES;
	} else if (shape == SHAPE_FLAT) {
		result.flat = 1;
		result.start.vector = call.second;
	} else if (shape == SHAPE_VECTOR) {
		result.start.vector = call.second;
		result.start.count = call.third;
	} else if (read_message((struct message *)call.second, &result.start)) {
		result.cut = MDF_CUT_PAGE_FAULT;
	}
	return emit_returned(&result);
}

/* (regs, result) */
SEC("raw_tp/sys_exit")
int systp_returned(struct bpf_raw_tracepoint_args *ctx)
{
	if ((long)ctx->args[1] <= 0 || !select_current(bpf_get_current_pid_tgid() >> 32))
		return 0;
	return call_returned((struct pt_regs *)ctx->args[0], ctx->args[1]);
}

SEC("tp/raw_syscalls/sys_exit")
int systp_returned_nopreempt(struct trace_event_raw_sys_exit *ctx)
{
	if (ctx->ret <= 0 || !select_current(bpf_get_current_pid_tgid() >> 32))
		return 0;
	return call_returned((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()), ctx->ret);
}

#endif
