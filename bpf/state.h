/* The life of TCP connections, from the state tracepoints. Shared by all backends.
 *
 * Most state changes happen wherever a packet happened to arrive, so "current" is the owner only when connect and
 * listen are called, and when a program closes.
 */
#ifndef MDF_STATE_H
#define MDF_STATE_H

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10

#define ETIMEDOUT 110
#define ECONNRESET 104
#define EPIPE 32
#define ECONNABORTED 103

static __always_inline void emit_connect(struct sock *sk, struct entry *entry, u64 now, u16 error)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	struct mdf_connect *record = RESERVE(struct mdf_connect);

	if (!record)
		return;
	record->kind = MDF_CONNECT;
	record->error = error;
	record->pad = 0;
	record->time = now;
	record->id = entry->id;
	record->connect_ns = now - entry->time;
	record->send_pos = BPF_CORE_READ(tcp, write_seq);
	record->receive_pos = BPF_CORE_READ(tcp, copied_seq);
	submit(record, sizeof(*record));
}

static __always_inline void emit_close(struct sock *sk, struct entry *entry, u64 now, u8 ending)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	struct mdf_close *record = RESERVE(struct mdf_close);
	u64 flags, done, received;

	if (!record)
		return;
	record->kind = MDF_CLOSE;
	record->ending = ending;
	record->pad = 0;
	record->time = now;
	record->id = entry->id;
	record->pad2 = 0;
	if (entry->role == MDF_ROLE_LISTENER) {
		record->retransmits = 0;
		record->bytes_sent = 0;
		record->bytes_received = 0;
		record->srtt_us = 0;
	} else {
		record->retransmits = BPF_CORE_READ(tcp, total_retrans);
		record->bytes_sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
		/* The kernel counts the peer's FIN as a received byte; SOCK_DONE shows that it came. */
		received = BPF_CORE_READ(tcp, bytes_received);
		flags = BPF_CORE_READ(sk, __sk_common.skc_flags);
		done = bpf_core_enum_value(enum sock_flags, SOCK_DONE);
		if (received && flags >> (done & 63) & 1)
			received--;
		record->bytes_received = received;
		/* Kept in eighths. */
		record->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
	}
	submit(record, sizeof(*record));
}

static __always_inline bool take_ends(struct sock *sk, struct entry *entry, bool listener)
{
	read_ends(sk, &entry->ends, listener);
	return select_ports(entry->ends.local_port, entry->ends.remote_port);
}

/* connect was called. The local port is not chosen yet, so the record comes with the outcome. */
static __noinline int connect_started(struct sock *sk)
{
	u64 task = bpf_get_current_pid_tgid();
	struct entry fresh = {};

	if (!select_current(task >> 32))
		return 0;
	fresh.netns = sock_netns(sk);
	if (!select_netns(fresh.netns))
		return 0;
	fresh.time = bpf_ktime_get_boot_ns();
	fresh.pid = task >> 32;
	fresh.cgroup = bpf_get_current_cgroup_id();
	fresh.opened = MDF_OPENED_CONNECT;
	fresh.role = MDF_ROLE_CLIENT;
	remember(sk, &fresh, 0);
	return 0;
}

static __noinline int connect_done(struct sock *sk, u16 error, u32 slot)
{
	struct entry *entry = find_socket(sk);
	u64 now = bpf_ktime_get_boot_ns();

	if (!entry)
		return 0;
	if (entry->stage == STAGE_UNDECIDED && !take_ends(sk, entry, false)) {
		forget_socket(sk);
		return 0;
	}
	if (!error)
		connection_starts(sk, entry);
	if (announce(entry, now, slot))
		emit_connect(sk, entry, now, error);
	else
		count_loss(MDF_LOSS_RING_FULL, 0);
	return 0;
}

/* The handshake of an incoming connection is completed. Who accepts it is known with its first traffic; until then
 * only filters that need no process can select it.
 */
static __noinline int accepted(struct sock *sk, u32 slot)
{
	struct entry fresh = {};
	struct entry *entry;
	struct cgroup *cgroup;
	bool selected;

	if (!take_ends(sk, &fresh, false))
		return 0;
	fresh.netns = sock_netns(sk);
	if (!select_netns(fresh.netns))
		return 0;
	cgroup = sock_cgroup(sk);
	fresh.time = bpf_ktime_get_boot_ns();
	fresh.opened = MDF_OPENED_ACCEPT;
	fresh.role = MDF_ROLE_SERVER;
	fresh.cgroup = cgroup_id(cgroup);
	connection_starts(sk, &fresh);
	selected = !filter_needs_process() && in_cgroups(cgroup);
	if (!selected && !filter_needs_process() && !(config.command && strays))
		return 0;
	entry = remember(sk, &fresh, 0);
	if (entry && selected)
		announce(entry, fresh.time, slot);
	return 0;
}

static __noinline int listening(struct sock *sk, u32 slot)
{
	u64 task = bpf_get_current_pid_tgid();
	struct entry fresh = {};
	struct entry *entry;

	if (!select_current(task >> 32))
		return 0;
	fresh.netns = sock_netns(sk);
	if (!select_netns(fresh.netns))
		return 0;
	if (!take_ends(sk, &fresh, true))
		return 0;
	fresh.time = bpf_ktime_get_boot_ns();
	fresh.pid = task >> 32;
	fresh.cgroup = bpf_get_current_cgroup_id();
	fresh.opened = MDF_OPENED_LISTEN;
	fresh.role = MDF_ROLE_LISTENER;
	entry = remember(sk, &fresh, 0);
	if (entry)
		announce(entry, fresh.time, slot);
	return 0;
}

/* A socket from the snapshot that was never used since. */
static __always_inline struct entry *seeded(struct sock *sk, struct entry *fresh)
{
	if (!discover(sk, fresh) || fresh->stage < STAGE_ANNOUNCED)
		return NULL;
	forget_seed(fresh);
	return fresh;
}

/* The program closes or shuts down: the last chance to learn who accepted a connection that had no traffic. */
static __noinline int closing(struct sock *sk, u32 slot)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct entry *entry = find_socket(sk);

	if (entry && entry->stage != STAGE_OWNED && select_current(tgid) &&
	    select_ports(entry->ends.local_port, entry->ends.remote_port))
		own_socket(entry, bpf_ktime_get_boot_ns(), slot);
	return 0;
}

static __noinline int closed(struct sock *sk, u32 old, u32 slot)
{
	struct entry *entry = find_socket(sk);
	u32 error = BPF_CORE_READ(sk, sk_err);
	u64 now = bpf_ktime_get_boot_ns();
	u8 ending = MDF_ENDING_CLOSED;
	struct entry fresh;

	/* Recorded already (tcp_abort of a socket that is not open any more). */
	if (old == TCP_CLOSE)
		return 0;
	if (!entry) {
		entry = seeded(sk, &fresh);
		if (!entry)
			return 0;
		entry = remember(sk, &fresh, 0);
		if (!entry)
			entry = &fresh;
	}
	if (old == TCP_SYN_SENT) {
		/* Without an error of its own it was given up: closed, or a signal. */
		connect_done(sk, error ? error : ECONNABORTED, slot);
		ending = MDF_ENDING_CONNECT_FAILED;
	} else if (error == ETIMEDOUT) {
		ending = MDF_ENDING_TIMED_OUT;
	} else if (error == ECONNRESET || error == EPIPE) {
		ending = MDF_ENDING_RESET_BY_PEER;
	} else if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT) {
		/* No FIN was sent: SO_LINGER 0, unread data, ss --kill. */
		ending = MDF_ENDING_RESET_LOCALLY;
	}
	/* The last try. */
	if (entry->stage != STAGE_UNDECIDED && !announce(entry, now, slot))
		count_loss(MDF_LOSS_RING_FULL, 0);
	if (entry->stage >= STAGE_ANNOUNCED)
		emit_close(sk, entry, now, ending);
	/* The entry stays until the socket is destroyed: what has come can be read after a RST or the last FIN, and a send in
	 * whose middle the RST comes is recorded when it returns.
	 */
	return 0;
}

static __always_inline bool is_subflow(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	return bpf_core_field_exists(tcp->is_mptcp) && BPF_CORE_READ(tcp, is_mptcp);
}

static __always_inline int change(struct sock *sk, u32 old, u32 new, u32 slot)
{
	/* A subflow of MPTCP carries no program's bytes as such; the MPTCP socket above it is followed from its first use. */
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || is_subflow(sk))
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
		return connect_started(sk);
	case TCP_ESTABLISHED:
		if (old == TCP_SYN_SENT)
			return connect_done(sk, 0, slot);
		if (old == TCP_SYN_RECV)
			return accepted(sk, slot);
		return 0;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		return closing(sk, slot);
	case TCP_LISTEN:
		return listening(sk, slot);
	case TCP_CLOSE:
		return closed(sk, old, slot);
	}
	return 0;
}

/* Recorded by one program or, where it may be skipped, by two. The socket's lock is held: another change does not come between.
 */
static __always_inline int changed(struct sock *sk, u32 old, u32 new, u32 slot)
{
	struct entry *entry;

	if (!config.twice)
		return change(sk, old, new, slot);
	entry = find_socket(sk);
	if (entry && entry->state == new)
		return 0;
	change(sk, old, new, slot);
	entry = find_socket(sk);
	if (entry)
		entry->state = new;
	return 0;
}

/* (sk, oldstate, newstate) */
SEC("raw_tp/inet_sock_set_state")
int state_changed(struct bpf_raw_tracepoint_args *ctx)
{
	return changed((struct sock *)ctx->args[0], ctx->args[1], ctx->args[2], SLOT_STATE);
}

/* Besides, where tracepoints can be preempted: the one is skipped where a task was preempted in it, the other when a packet
 * comes in the middle of any program at a trace event or kprobe.
 */
SEC("tp/sock/inet_sock_set_state")
int state_changed_nopreempt(struct trace_event_raw_inet_sock_set_state *ctx)
{
	return changed((struct sock *)ctx->skaddr, ctx->oldstate, ctx->newstate, SLOT_STATE_NOPREEMPT);
}

/* The last word on a socket: no program has it any more. */
SEC("raw_tp/tcp_destroy_sock")
int socket_destroyed(struct bpf_raw_tracepoint_args *ctx)
{
	forget_socket((struct sock *)ctx->args[0]);
	return 0;
}

/* (sk, skb, …): a connect that gets no answer is announced by its first retransmission. */
SEC("raw_tp/tcp_retransmit_skb")
int retransmitted(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	struct entry *entry = find_socket(sk);

	if (!entry || entry->stage >= STAGE_ANNOUNCED || entry->opened != MDF_OPENED_CONNECT)
		return 0;
	if (take_ends(sk, entry, false))
		announce(entry, bpf_ktime_get_boot_ns(), SLOT_SPARE);
	return 0;
}

#endif
