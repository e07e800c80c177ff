/* Maps and settings. */
#ifndef MDF_MAPS_H
#define MDF_MAPS_H

const volatile struct mdf_config config SEC(".rodata.config");
/* One bit for each port. */
const volatile u8 wanted_ports[65536 / 8] SEC(".rodata.ports");

/* What changes while programs run. Alone in its section, so that user space finds it without a name. */
struct control {
	u32 own_tgid; /* this recorder's own thread group: never recorded. Set by whoami */
	u32 cgroup_generation; /* counts changes of wanted_cgroups: cached verdicts grow old. Set by user space */
	u32 only_self; /* the self-test is going on: record own_tgid and nothing else, whatever the filter selects */
	u32 pad;
};
volatile struct control control SEC(".data.control");
/* With a command: whether a followed process may be outside of the filter's cgroups. As long as none is, followed is not
 * looked up, and a process that is not recorded costs no more than with a filter on cgroups. Not in control, which user space
 * writes as a whole.
 */
volatile u32 strays SEC(".data.strays");
/* Where the kernel keeps struct page, and the memory that it describes: the addresses of its variables (moved about by
 * KASLR), or without these variables the places themselves. Set by user space once it has looked through
 * /proc/kallsyms, which takes a while; 0: not known.
 */
struct pages {
	u64 vmemmap_base;
	u64 page_offset_base;
	u64 vmemmap;
	u64 page_offset;
};
volatile struct pages pages SEC(".data.pages");

/* Never written: a source of zeros for bpf_probe_read_kernel. */
u8 zeros[MDF_MAX_SNAPLEN / 2];

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

/* How much of a socket is in the ring. Only goes up, and only when the record is there: a record for which the ring had no
 * room is tried again whenever the socket shows itself.
 */
enum stage {
	STAGE_UNDECIDED, /* nothing: the filter needs the process, which is not known yet */
	STAGE_SELECTED, /* nothing yet */
	STAGE_ANNOUNCED, /* its Socket record, without an owner */
	STAGE_OWNED, /* its owner too: complete */
};

/* A socket that is followed. */
struct entry {
	u64 id;
	u64 time; /* connect called, handshake completed, or first seen */
	u64 cgroup;
	u64 send_time; /* when the send call in progress began; 0: none */
	u64 send_msg; /* its struct msghdr; 0: not known */
	u32 send_tid; /* the thread that makes it */
	u32 send_pos; /* position of its first byte */
	u32 start_pos[2]; /* by direction: the first byte of the connection, where it was seen to open (started) */
	u64 many_base; /* sendmmsg, recvmmsg: their vector … */
	u32 many_tid; /* … and thread … */
	u32 many_next; /* … and the next message of it */
	u32 counted_pos[2]; /* next position by direction, where the kernel's positions cannot be used (COUNTED) */
	u8 counted[2];
	u8 opened;
	u8 role;
	u8 stage; /* enum stage */
	u8 many_direction; /* … and which of the two calls it was */
	u8 state; /* the last change of state that was recorded (config.twice) */
	u8 started;
	u32 pid; /* owner; 0: not known yet */
	u32 netns;
	struct mdf_endpoints ends;
	u32 pad2;
};

/* Where systp is in a sendmmsg or recvmmsg. */
struct many {
	u64 sk;
	u64 at;
	u32 left; /* bytes from here to the end of the call */
	u32 direction;
	u32 flags; /* MSG_… */
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct many);
} manies SEC(".maps");

/* A receive or send call that a kprobe saw begin, by thread. */
struct inflight {
	u64 sk;
	u64 msg;
	u64 time;
	u32 done; /* bytes that were written to the ring already */
	u32 flags;
	u32 kind; /* enum call_kind */
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct inflight);
} inflights SEC(".maps");

/* struct sock * -> entry */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct entry);
} sockets SEC(".maps");

/* Sockets that user space found by itself: what they are -> the id it gave them. */
struct seed_key {
	struct mdf_endpoints ends;
	u32 netns;
};
struct seed {
	u64 id;
	u32 role;
	u32 pid;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct seed_key);
	__type(value, struct seed);
} seeds SEC(".maps");

/* Thread groups of the pid filter, the command, and the descendants of both. */
struct followed {
	u64 start; /* as in Process records: pids are used again */
	u32 of_command;
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, struct followed);
} followed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u32);
} wanted_cgroups SEC(".maps");

/* cgroup id -> generation << 1 | whether it is below one in wanted_cgroups */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, u32);
} cgroup_verdicts SEC(".maps");

struct process_key {
	u64 start;
	u32 pid;
	u32 pad;
};

/* Thread groups whose Exit record was written: two last threads may both see themselves as the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, u32);
} exited SEC(".maps");

/* Thread groups whose last Process record did not fit into the ring: it is emitted when they exit. */
struct pending_process {
	u64 time;
	u32 origin;
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct process_key);
	__type(value, struct pending_process);
} pending_processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MDF_LOSSES);
	__type(key, u32);
	__type(value, struct mdf_count);
} losses SEC(".maps");

/* Programs that need memory or numbers of their own. A program can be preempted by another, but never by itself (see
 * below), so nothing per CPU is shared between two of them.
 *
 * The kernel skips a program that runs on this CPU already. Programs at raw tracepoints and at functions (fexit) may be
 * preempted: these where the kernel is preemptible, those since tracepoints are guarded by SRCU (7.0). Then whatever
 * the tasks that come between do is missed. At trace events and kprobes the kernel turns preemption off around programs:
 * there those whose names end in _nopreempt replace others that could be preempted. But only one of all these runs on a CPU
 * at a time, so what may happen in a packet's interrupt is not left to them alone.
 */
enum slot {
	SLOT_SEND,
	SLOT_RECEIVE,
	SLOT_STATE,
	SLOT_STATE_NOPREEMPT,
	SLOT_EXEC,
	SLOT_CGROUP,
	SLOT_SPARE,
	SLOT_SEND6,
	SLOT_RECEIVE6,
	SLOT_PAGE,
	SLOT_SPLICE,
	SLOTS,
};

/* Room to gather payload from several segments. 24 KiB after the header: a chunk may start at any place below
 * MDF_MAX_SNAPLEN, and the verifier adds the two bounds. Per-CPU values end at 32 KiB.
 */
#define CHUNK (MDF_MAX_SNAPLEN / 2)
struct scratch_start {
	u64 vector;
	u64 skip;
	u32 count;
	u32 kind;
};
struct scratch {
	/* What is left to gather: the next chunk starts skip bytes into the segment at vector (count segments are left) and
	 * goes to payload + off, as long as off < want.
	 */
	u64 vector;
	u64 skip;
	u64 want;
	u64 off;
	u32 count;
	u32 kind; /* enum memory */
	/* The record. */
	struct mdf_data head;
	u8 payload[MDF_MAX_SNAPLEN + CHUNK];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, u32);
	__type(value, u64);
} numbers SEC(".maps");

#endif
