/* The kernel types that the probe looks into, written by hand: only the fields that are read. Offsets come from the
 * running kernel's BTF (preserve_access_index), so this file is the same for every kernel and architecture. A name
 * with ___suffix is another shape of the same kernel type in another kernel version (CO-RE flavour).
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* bpf(2) constants that are part of the user ABI. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};
enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};
enum {
	BPF_RB_AVAIL_DATA = 0,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

/* What trace events tell. */
struct trace_event_raw_sock_msg_length {
	void *sk;
	int ret;
	int flags;
};
struct trace_event_raw_inet_sock_set_state {
	const void *skaddr;
	int oldstate;
	int newstate;
};
struct trace_event_raw_sched_process_fork {
	int child_pid;
};
struct trace_event_raw_sys_exit {
	long ret;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
	unsigned long bp;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
struct pt_regs {
	__u64 orig_x0;
	__s32 syscallno;
	__u64 regs[31];
};
#endif

typedef struct {
	int counter;
} atomic_t;
typedef struct {
	unsigned int val;
} kuid_t;

struct ns_common {
	unsigned int inum;
};
struct pid_namespace {
	struct ns_common ns;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct nsproxy {
	struct net *net_ns;
};
struct upid {
	int nr;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};

/* Stands for any pointer in memory: it is nothing else. */
struct hlist_node;
struct hlist_head {
	struct hlist_node *first;
};

struct kernfs_node {
	u64 id;
};
struct cgroup_root;
struct cgroup {
	int level;
	struct cgroup_root *root;
	struct kernfs_node *kn;
	struct cgroup *ancestors[1];
};
/* Before 6.1 (commit 7f203bc89eb6). */
struct cgroup___ids {
	u64 ancestor_ids[1];
};
struct css_set {
	struct cgroup *dfl_cgrp;
};

struct cred {
	kuid_t uid;
};
struct qstr {
	u32 len;
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount {
	struct dentry *mnt_root;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	void *private_data;
};
struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct thread_info {
	unsigned long flags;
	u32 status;
};
struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	char comm[16];
	struct signal_struct *signal;
	const struct cred *real_cred;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
	struct files_struct *files;
	struct mm_struct *mm;
};
struct in6_addr {
	u8 s6_addr[16];
};
struct sock_common {
	unsigned short skc_family;
	unsigned char skc_state;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	struct proto *skc_prot;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};
struct socket;
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
/* Before 5.15 (commit 8520e224f547). */
struct sock_cgroup_data___val {
	u64 val;
};
struct sock {
	struct sock_common __sk_common;
	struct proto *sk_prot_creator;
	struct socket *sk_socket;
	int sk_err;
	u16 sk_protocol;
	u16 sk_type;
	struct sock_cgroup_data sk_cgrp_data;
};
struct sock___val {
	struct sock_cgroup_data___val sk_cgrp_data;
};
struct socket {
	struct file *file;
	struct sock *sk;
};
struct page {
	unsigned long flags;
};
struct iovec {
	void *iov_base;
	unsigned long iov_len;
};
struct bio_vec {
	struct page *bv_page;
	unsigned int bv_len;
	unsigned int bv_offset;
};
struct iov_iter {
	u8 iter_type;
	unsigned long iov_offset;
	unsigned long count;
	const struct iovec *__iov;
	const void *kvec;
	const struct bio_vec *bvec;
	void *ubuf;
};
/* Before 6.4 (commit de4f5fed3f23). */
struct iov_iter___iov {
	const struct iovec *iov;
};
/* Before 5.14 (commit 8cd54c1c8480): a bit field with the direction in the lowest bit. */
struct iov_iter___type {
	unsigned int type;
};
/* The numbers are read from BTF: they have changed several times. */
enum iter_type {
	ITER_UBUF = 0,
	ITER_IOVEC = 1,
	ITER_BVEC = 2,
	ITER_KVEC = 3,
};
struct msghdr {
	struct iov_iter msg_iter;
	unsigned int msg_flags;
};

struct inet_sock {
	__be16 inet_sport;
};
struct inet_connection_sock {
	const void *icsk_ulp_ops;
};
struct tcp_sock {
	u32 write_seq;
	u32 copied_seq;
	u32 rcv_nxt;
	u32 urg_seq;
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
	u32 total_retrans;
	u32 srtt_us;
	bool is_mptcp;
};

/* include/net/sock.h; the numbers are read from BTF. */
enum sock_flags {
	SOCK_DONE = 1,
};

#pragma clang attribute pop

#endif
