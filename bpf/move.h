/* Bytes that went over a socket: everything about them but the payload. Shared by all backends. */
#ifndef MDF_MOVE_H
#define MDF_MOVE_H

/* include/linux/socket.h */
#define MSG_OOB 1
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000

/* What is received with these is no next part of the stream: looked at only, reports of the kernel, urgent data. */
#define NOT_OF_STREAM (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB)

/* Under kTLS the kernel's positions count records, not plaintext, and an MPTCP socket has its sequence numbers in
 * another place: there the bytes are counted from where the socket was first used. On both ends alike, if both are followed from the start.
 */
static __always_inline bool counts_itself(struct sock *sk)
{
	return LOAD(struct sock, sk, sk_protocol) != IPPROTO_TCP ||
	       LOAD(struct inet_connection_sock, sk, icsk_ulp_ops);
}

static __noinline int counted_pos(struct sock *sk, struct entry *entry, u32 len, u32 direction, u32 after)
{
	u32 pos;

	direction &= 1;
	if (!entry->counted[direction]) {
		entry->counted[direction] = 1;
		/* A handshake in the clear came before kTLS. */
		entry->counted_pos[direction] =
			BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP ? kernel_pos(sk, direction) - len - after : 0;
	}
	pos = entry->counted_pos[direction];
	entry->counted_pos[direction] = pos + len;
	return pos;
}

/* A receive call passes over the urgent byte only where it begins; it ends before one that is farther on
 * (tcp_recvmsg_locked). No other program sees the byte where its sender is not recorded.
 */
static __noinline int emit_passed_over(const struct mdf_data *next)
{
	struct mdf_data *record = RESERVE(struct mdf_data);

	if (record) {
		*record = *next;
		record->cut = MDF_CUT_URGENT;
		record->captured = 0;
		record->pos = next->pos - 1;
		record->len = 1;
		submit(record, sizeof(*record));
	}
	return 0;
}

/* The last byte that is sent with MSG_OOB is urgent (tcp_mark_urg). */
static __always_inline void mark_urgent(struct mdf_data *head, u64 flags)
{
	if (flags & MSG_OOB)
		head->cut = MDF_CUT_URGENT;
}

/* Fills the fields of a data record beside its payload: head->captured is the payload that is worth reading. NULL when it
 * is not to be recorded. The caller has asked select_current(). after: bytes of the same call that follow these.
 * now: when the call returned; 0: the clock is read if no program stored when it began.
 */
static __always_inline struct entry *begin_data(struct mdf_data *head, struct sock *sk, u32 len, u32 after,
						u8 direction, u64 task, u64 now, u32 slot)
{
	struct entry *entry = find_socket(sk);
	u32 want = len;
	bool timed = entry && entry->stage == STAGE_OWNED && direction == MDF_SENT && entry->send_time &&
		     entry->send_tid == (u32)task;

	if (!now && !timed)
		now = bpf_ktime_get_boot_ns();
	entry = use_socket(sk, entry, now, slot, len);
	if (!entry)
		return NULL;
	head->kind = MDF_DATA;
	head->direction = direction;
	head->cut = MDF_CUT_WHOLE;
	head->time = now;
	if (counts_itself(sk))
		head->pos = counted_pos(sk, entry, len, direction, after);
	else
		head->pos = kernel_pos(sk, direction) - len - after;
	if (direction == MDF_SENT && entry->send_time) {
		if (entry->send_tid == (u32)task) {
			head->time = entry->send_time;
			if (!entry->counted[MDF_SENT])
				head->pos = entry->send_pos;
		}
		entry->send_time = 0;
	}
	if (want > config.snaplen) {
		want = config.snaplen;
		head->cut = MDF_CUT_SNAPLEN;
		count_loss(MDF_LOSS_TRUNCATED, len - want);
	}
	head->captured = want;
	head->id = entry->id;
	head->cgroup = current_cgroup_id(current_task());
	head->len = len;
	head->pid = task >> 32;
	head->tid = task;
	if (direction == MDF_RECEIVED && head->pos == LOAD(struct tcp_sock, sk, urg_seq) + 1)
		emit_passed_over(head);
	return entry;
}

/* A send call begins, with the socket's lock held: its time, its message, and the position of its first byte. Otherwise a
 * send is stamped when it returns, and over loopback the answer may be there by then.
 */
static __always_inline int send_begins(struct sock *sk, u64 msg, u64 task)
{
	struct entry *entry = find_socket(sk);

	if (!entry || (entry->send_time && entry->send_tid == (u32)task && entry->send_msg == msg))
		return 0;
	entry->send_tid = task;
	entry->send_msg = msg;
	entry->send_pos = kernel_pos(sk, MDF_SENT);
	entry->send_time = bpf_ktime_get_boot_ns();
	return 0;
}

/* A send call failed. */
static __always_inline void send_failed(struct sock *sk)
{
	struct entry *entry = find_socket(sk);

	if (entry) {
		entry->send_time = 0;
		entry->send_msg = 0;
	}
}

static __always_inline int if_send_selected(u64 sk, u64 msg)
{
	struct task_struct *current = current_task();
	u64 task = current_id(current);

	if (!select_task(current, task >> 32))
		return 0;
	return send_begins((struct sock *)sk, msg, task);
}

/* (sk, msg, skb, size_goal), once per piece of a send call: 6.16 and later. Beside socktp and fexit. */
SEC("raw_tp/tcp_sendmsg_locked")
int send_began(struct bpf_raw_tracepoint_args *ctx)
{
	return if_send_selected(ctx->args[0], ctx->args[1]);
}

/* (sk, msg, size): instead, where tracepoints can be preempted. The trace event has neither of the two. */
SEC("kprobe/tcp_sendmsg_locked")
int send_began_nopreempt(struct pt_regs *ctx)
{
	return if_send_selected(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}

#endif
