/* Sockets: what they are, and the entry that remembers it. */
#ifndef MDF_SOCK_H
#define MDF_SOCK_H

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262

static __always_inline bool is_tcp(struct sock *sk)
{
	u16 family = LOAD(struct sock, sk, __sk_common.skc_family);
	u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	return (family == AF_INET || family == AF_INET6) && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

static __always_inline void mapped(u8 *to, u32 ip)
{
	u32 *words = (u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = ip;
}

/* The local port comes from inet_sport: skc_num is 0 again after close. Only a listener has it the other way round
 * (it is given its number before its port).
 */
static __always_inline void read_ends(struct sock *sk, struct mdf_endpoints *ends, bool listener)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		mapped(ends->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		mapped(ends->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		BPF_CORE_READ_INTO(&ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&ends->remote, sk, __sk_common.skc_v6_daddr);
	}
	if (listener) {
		__builtin_memset(ends->remote, 0, sizeof(ends->remote));
		ends->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
		ends->remote_port = 0;
	} else {
		ends->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
		ends->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	}
}

static __always_inline u64 end_hash(const u8 *ip, u16 port)
{
	const u64 *words = (const u64 *)ip;
	u64 mixed = ((words[0] ^ port) * 0xff51afd7ed558ccdULL ^ words[1]) * 0xc4ceb9fe1a85ec53ULL;

	return mixed ^ mixed >> 32;
}

/* A hash of both ends that does not depend on their order (src/record/source/tcp/wire.rs: endpoints_hash), above a number that
 * is counted per CPU and program: atomic fetch-and-add does not exist before 5.12. Bit 31 belongs to user space.
 */
static __always_inline u64 make_id(const struct mdf_endpoints *ends, u32 slot)
{
	u64 *number = bpf_map_lookup_elem(&numbers, &slot);
	u64 hash = end_hash(ends->local, ends->local_port) + end_hash(ends->remote, ends->remote_port);
	u32 low = 0;

	if (number) {
		*number += 1;
		low = (*number * SLOTS + slot) * config.cpus + bpf_get_smp_processor_id();
	}
	return (hash * 0x9e3779b97f4a7c15ULL >> 32) << 32 | (low & 0x7fffffff);
}

static __always_inline u32 sock_netns(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* The cgroup in which the socket (or the listener that it was accepted from) was made. */
static __always_inline struct cgroup *sock_cgroup(struct sock *sk)
{
	struct sock___val *old = (void *)sk;
	u64 value;

	if (!bpf_core_field_exists(old->sk_cgrp_data.val))
		return BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	value = BPF_CORE_READ(old, sk_cgrp_data.val);
	/* The lowest bit means that net_cls or net_prio took the place. */
	return value & 1 ? NULL : (struct cgroup *)value;
}

static __always_inline struct entry *find_socket(struct sock *sk)
{
	u64 key = (u64)sk;

	return bpf_map_lookup_elem(&sockets, &key);
}

static __always_inline void forget_socket(struct sock *sk)
{
	u64 key = (u64)sk;

	bpf_map_delete_elem(&sockets, &key);
}

/* The position after the last byte that was moved, as the kernel numbers it. A FIN takes a sequence number: the receive
 * call that finds it after its data passes it too (SOCK_DONE: tcp_fin() has seen it).
 */
static __always_inline u32 kernel_pos(struct sock *sk, u8 direction)
{
	u32 copied;

	if (direction == MDF_SENT)
		return LOAD(struct tcp_sock, sk, write_seq);
	copied = LOAD(struct tcp_sock, sk, copied_seq);
	if (LOAD(struct sock, sk, __sk_common.skc_flags) & (1 << SOCK_DONE) && copied == LOAD(struct tcp_sock, sk, rcv_nxt))
		return copied - 1;
	return copied;
}

/* The handshake is completed: from here on both directions carry bytes. */
static __always_inline void connection_starts(struct sock *sk, struct entry *entry)
{
	entry->start_pos[MDF_SENT] = kernel_pos(sk, MDF_SENT);
	entry->start_pos[MDF_RECEIVED] = kernel_pos(sk, MDF_RECEIVED);
	entry->started = 1;
}

static __always_inline bool emit_socket(struct entry *entry, u32 slot)
{
	struct mdf_socket *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record)
		return false;
	if (!entry->id)
		entry->id = make_id(&entry->ends, slot);
	record->kind = MDF_SOCKET;
	record->opened = entry->opened;
	record->role = entry->role;
	record->netns = entry->netns;
	record->time = entry->time;
	record->id = entry->id;
	record->cgroup = entry->cgroup;
	record->ends = entry->ends;
	record->pid = entry->pid;
	record->send_pos = entry->start_pos[MDF_SENT];
	record->receive_pos = entry->start_pos[MDF_RECEIVED];
	record->positions = entry->started;
	record->pad = 0;
	submit(record, sizeof(*record));
	return true;
}

static __always_inline bool emit_owner(const struct entry *entry, u64 now)
{
	struct mdf_owner *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record)
		return false;
	record->kind = MDF_OWNER;
	record->pad = 0;
	record->pid = entry->pid;
	record->time = now;
	record->id = entry->id;
	record->cgroup = entry->cgroup;
	submit(record, sizeof(*record));
	return true;
}

/* Emits what the ring lacks of a selected socket: its Socket record, or its Owner record. Gives whether it lacks nothing that
 * is known. What does not fit is no loss yet: it is tried again.
 */
static __noinline int announce(struct entry *entry, u64 now, u32 slot)
{
	u8 after = entry->pid ? STAGE_OWNED : STAGE_ANNOUNCED;

	if (entry->stage == after)
		return 1;
	if (entry->stage == STAGE_ANNOUNCED ? emit_owner(entry, now) : emit_socket(entry, slot)) {
		entry->stage = after;
		return 1;
	}
	if (entry->stage == STAGE_UNDECIDED)
		entry->stage = STAGE_SELECTED;
	return 0;
}

/* A new entry; NULL when the map is full. bytes: what is lost with it. */
static __always_inline struct entry *remember(struct sock *sk, const struct entry *entry, u64 bytes)
{
	u64 key = (u64)sk;

	if (bpf_map_update_elem(&sockets, &key, entry, BPF_ANY)) {
		count_loss(MDF_LOSS_MAP_FULL, bytes);
		return NULL;
	}
	return bpf_map_lookup_elem(&sockets, &key);
}

/* A socket whose opening was not seen. Fills the entry; 0 when the filter does not want it. */
static __noinline int discover(struct sock *sk, struct entry *entry)
{
	struct seed_key key = {};
	struct seed *seed;

	__builtin_memset(entry, 0, sizeof(*entry));
	if (!is_tcp(sk))
		return 0;
	read_ends(sk, &entry->ends, false);
	if (!select_ports(entry->ends.local_port, entry->ends.remote_port))
		return 0;
	entry->netns = sock_netns(sk);
	if (!select_netns(entry->netns))
		return 0;
	entry->opened = MDF_OPENED_FIRST_SEEN;
	key.ends = entry->ends;
	key.netns = entry->netns;
	seed = bpf_map_lookup_elem(&seeds, &key);
	if (seed) {
		entry->id = seed->id;
		entry->role = seed->role;
		entry->pid = seed->pid;
		entry->opened = MDF_OPENED_SNAPSHOT;
		entry->stage = seed->pid ? STAGE_OWNED : STAGE_ANNOUNCED;
	}
	return 1;
}

/* The seed of an entry is used up. */
static __always_inline void forget_seed(const struct entry *entry)
{
	struct seed_key key = {};

	if (entry->opened != MDF_OPENED_SNAPSHOT)
		return;
	key.ends = entry->ends;
	key.netns = entry->netns;
	bpf_map_delete_elem(&seeds, &key);
}

/* The entry of a socket that is used for the first time that we see. */
static __noinline struct entry *discovered(struct sock *sk, u64 now, u32 slot, u64 bytes)
{
	/* Not on the stack: it is small, and all callers' frames together count. */
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct entry *fresh, *entry;

	if (!scratch)
		return NULL;
	fresh = (struct entry *)scratch->payload;
	if (!discover(sk, fresh))
		return NULL;
	fresh->time = now;
	entry = remember(sk, fresh, bytes);
	/* Not before: where the table is full, the next try needs it. */
	if (entry)
		forget_seed(fresh);
	return entry;
}

/* Now it is known whose the socket is: the current task's, which the filter selects. Gives whether the ring has its Socket
 * record.
 */
static __noinline int own_socket(struct entry *entry, u64 now, u32 slot)
{
	if (!entry->pid) {
		entry->pid = bpf_get_current_pid_tgid() >> 32;
		entry->cgroup = bpf_get_current_cgroup_id();
	}
	announce(entry, now, slot);
	return entry->stage >= STAGE_ANNOUNCED;
}

/* The entry of a socket over which a selected task moves bytes now, with its Socket record in the ring; NULL when it is not
 * selected, or the ring has no room for the record: data that could not be attributed is counted instead.
 * entry: what find_socket() gave.
 */
static __always_inline struct entry *use_socket(struct sock *sk, struct entry *entry, u64 now, u32 slot, u64 bytes)
{
	if (!entry) {
		entry = discovered(sk, now, slot, bytes);
		if (!entry)
			return NULL;
	}
	if (entry->stage != STAGE_OWNED) {
		if (!select_ports(entry->ends.local_port, entry->ends.remote_port))
			return NULL;
		if (!own_socket(entry, now, slot)) {
			count_loss(MDF_LOSS_RING_FULL, bytes);
			return NULL;
		}
	}
	return entry;
}

#endif
