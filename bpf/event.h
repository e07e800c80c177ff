/* The layout of ring records: the one place where it is written in C. Their twins are src/record/source/wire.rs and the wire.rs
 * of each source; the test src/record/source/layout.rs compares the two sides.
 *
 * Fixed-width fields, host byte order (both sides run on one machine), explicit padding that is always written.
 * The first two bytes of each record are its kind.
 */
#ifndef MDF_EVENT_H
#define MDF_EVENT_H

enum mdf_kind {
	MDF_PROCESS = 1,
	MDF_EXIT = 2,
	MDF_CGROUP = 3,
	MDF_SOCKET = 4,
	MDF_OWNER = 5,
	MDF_CONNECT = 6,
	MDF_CLOSE = 7,
	MDF_DATA = 8,
};

/* These have the values of the stored records (src/format/record.rs). */
enum mdf_origin {
	MDF_ORIGIN_FORK = 2,
	MDF_ORIGIN_EXEC = 3,
};
enum mdf_role {
	MDF_ROLE_UNDETERMINED = 0,
	MDF_ROLE_CLIENT = 1,
	MDF_ROLE_SERVER = 2,
	MDF_ROLE_LISTENER = 3,
};
enum mdf_opened {
	MDF_OPENED_SNAPSHOT = 1,
	MDF_OPENED_CONNECT = 2,
	MDF_OPENED_ACCEPT = 3,
	MDF_OPENED_FIRST_SEEN = 4,
	MDF_OPENED_LISTEN = 5,
};
enum mdf_direction {
	MDF_SENT = 0,
	MDF_RECEIVED = 1,
};
enum mdf_cut {
	MDF_CUT_WHOLE = 0,
	MDF_CUT_SNAPLEN = 1,
	MDF_CUT_PAGE_FAULT = 2,
	MDF_CUT_KERNEL_PAGES = 3,
	MDF_CUT_SEGMENTS = 4,
	MDF_CUT_NOT_VISIBLE = 5,
	MDF_CUT_URGENT = 6,
};
enum mdf_ending {
	MDF_ENDING_CLOSED = 1,
	MDF_ENDING_RESET_BY_PEER = 2,
	MDF_ENDING_RESET_LOCALLY = 3,
	MDF_ENDING_TIMED_OUT = 4,
	MDF_ENDING_CONNECT_FAILED = 5,
};

/* Followed by exe_len bytes of the path of the file that is run and argv_len bytes of arguments. */
struct mdf_process {
	u16 kind;
	u8 origin;
	u8 pad;
	u32 pid;
	u64 time;
	u64 start;
	u64 cgroup;
	u32 ppid;
	u32 pid_in_ns;
	u32 uid;
	u32 netns;
	u8 comm[16];
	u32 exe_len;
	u32 argv_len;
	u32 argv_total;
	u32 pad2;
};
_Static_assert(sizeof(struct mdf_process) == 80, "mdf_process");

struct mdf_exit {
	u16 kind;
	u16 pad;
	u32 pid;
	u64 time;
	u64 start;
	u32 status;
	u32 pad2;
};
_Static_assert(sizeof(struct mdf_exit) == 32, "mdf_exit");

/* Followed by path_len bytes of path. */
struct mdf_cgroup {
	u16 kind;
	u16 pad;
	u32 path_len;
	u64 time;
	u64 id;
};
_Static_assert(sizeof(struct mdf_cgroup) == 24, "mdf_cgroup");

/* Network byte order; IPv4 as an IPv4-mapped IPv6 address. Ports in host byte order. */
struct mdf_endpoints {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
};
_Static_assert(sizeof(struct mdf_endpoints) == 36, "mdf_endpoints");

struct mdf_socket {
	u16 kind;
	u8 opened;
	u8 role;
	u32 netns;
	u64 time;
	u64 id;
	u64 cgroup;
	struct mdf_endpoints ends;
	u32 pid;
	u32 send_pos;
	u32 receive_pos;
	u32 positions;
	u32 pad;
};
_Static_assert(sizeof(struct mdf_socket) == 88, "mdf_socket");

struct mdf_owner {
	u16 kind;
	u16 pad;
	u32 pid;
	u64 time;
	u64 id;
	u64 cgroup;
};
_Static_assert(sizeof(struct mdf_owner) == 32, "mdf_owner");

struct mdf_connect {
	u16 kind;
	u16 error;
	u32 pad;
	u64 time;
	u64 id;
	u64 connect_ns;
	u32 send_pos;
	u32 receive_pos;
};
_Static_assert(sizeof(struct mdf_connect) == 40, "mdf_connect");

struct mdf_close {
	u16 kind;
	u8 ending;
	u8 pad;
	u32 retransmits;
	u64 time;
	u64 id;
	u64 bytes_sent;
	u64 bytes_received;
	u32 srtt_us;
	u32 pad2;
};
_Static_assert(sizeof(struct mdf_close) == 48, "mdf_close");

/* Followed by captured bytes of payload, then maybe by padding up to the size class. */
struct mdf_data {
	u16 kind;
	u8 direction;
	u8 cut;
	u32 captured;
	u64 time;
	u64 id;
	u64 cgroup;
	u32 pos;
	u32 len;
	u32 pid;
	u32 tid;
};
_Static_assert(sizeof(struct mdf_data) == 48, "mdf_data");

/* Loss counters: the keys of the map losses. */
enum mdf_loss {
	MDF_LOSS_RING_FULL = 0,
	MDF_LOSS_MAP_FULL = 1,
	MDF_LOSS_PAGE_FAULT = 2,
	MDF_LOSS_TRUNCATED = 3,
	MDF_LOSSES = 4,
};
struct mdf_count {
	u64 events;
	u64 bytes;
};

enum mdf_limit {
	MDF_MAX_SNAPLEN = 16384,
	MDF_MAX_CGROUPS = 4,
};

/* Settings: fixed before load, so that the verifier drops what is not asked for. */
struct mdf_config {
	u32 snaplen;
	u32 cpus;
	u32 wakeup_bytes; /* wake the reader when the ring holds this much */
	u32 netns; /* 0 = any */
	u32 pid_filter; /* look into followed */
	u32 comm_filter;
	u8 comm[16];
	u32 cgroup_count; /* compare with cgroups[] at cgroup_levels[] */
	u32 cgroup_dynamic; /* look into wanted_cgroups instead */
	u64 cgroups[MDF_MAX_CGROUPS];
	u32 cgroup_levels[MDF_MAX_CGROUPS];
	u32 port_filter; /* look into wanted_ports */
	u32 twice; /* two programs run at each change of a socket's state */
	u32 all_cgroups; /* report each cgroup that is made, whatever is recorded */
	u32 plain_loads; /* kernel memory can be read by plain loads (bpf_rdonly_cast, 6.2) */
	u32 command; /* the recorder's child is followed, and to be in the cgroups or in followed is enough */
	u32 pad;
};
_Static_assert(sizeof(struct mdf_config) == 120, "mdf_config");

/* The compiler describes a type in the object's BTF only if a variable leads to it. This one is for the test that
 * compares these types with their Rust twins, and is never read.
 */
struct mdf_twins {
	struct mdf_process process;
	struct mdf_exit exit;
	struct mdf_cgroup cgroup;
	struct mdf_socket socket;
	struct mdf_owner owner;
	struct mdf_connect connect;
	struct mdf_close close;
	struct mdf_data data;
	enum mdf_kind kind;
	enum mdf_origin origin;
	enum mdf_role role;
	enum mdf_opened opened;
	enum mdf_direction direction;
	enum mdf_cut cut;
	enum mdf_ending ending;
	enum mdf_loss loss;
	enum mdf_limit limit;
};
const struct mdf_twins *twins __attribute__((unused));

#endif
