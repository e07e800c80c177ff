/* Who is recorded. The cheapest tests first: most calls end here. */
#ifndef MDF_FILTER_H
#define MDF_FILTER_H

/* Depth of the cgroup tree that is walked. */
#define MAX_CGROUP_LEVELS 24
/* TASK_COMM_LEN */
#define COMM_LEN 16

/* The id of the ancestor at this level; 0 when the cgroup is not that deep. */
static __always_inline u64 ancestor_id(struct cgroup *cgroup, u32 level)
{
	u64 id = 0;

	if (!cgroup || BPF_CORE_READ(cgroup, level) < (int)level)
		return 0;
	if (bpf_core_field_exists(((struct cgroup___ids *)0)->ancestor_ids)) {
		u64 *ids = bpf_core_field_offset(((struct cgroup___ids *)0)->ancestor_ids) + (void *)cgroup;

		bpf_probe_read_kernel(&id, sizeof(id), ids + level);
	} else {
		struct cgroup **ancestors = bpf_core_field_offset(((struct cgroup *)0)->ancestors) + (void *)cgroup;
		struct cgroup *ancestor = NULL;

		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), ancestors + level);
		id = cgroup_id(ancestor);
	}
	return id;
}

static __always_inline struct cgroup *task_cgroup(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp);
}

/* Whether a cgroup is below one in wanted_cgroups; remembered, because the walk is long. */
static __noinline int wanted_cgroup(struct cgroup *cgroup)
{
	u64 own = cgroup_id(cgroup);
	u32 generation = control.cgroup_generation;
	u32 *known = bpf_map_lookup_elem(&cgroup_verdicts, &own);
	u32 verdict = generation << 1;

	if (known && *known >> 1 == (generation & 0x7fffffff))
		return *known & 1;
	for (u32 level = 0; level < MAX_CGROUP_LEVELS; level++) {
		u64 id = ancestor_id(cgroup, level);

		if (!id)
			break;
		if (bpf_map_lookup_elem(&wanted_cgroups, &id)) {
			verdict |= 1;
			break;
		}
	}
	bpf_map_update_elem(&cgroup_verdicts, &own, &verdict, BPF_ANY);
	return verdict & 1;
}

/* Whether a cgroup is in one of the filter's. Without any in the filter all do; a command alone takes none. */
static __always_inline bool in_cgroups(struct cgroup *cgroup)
{
	if (config.cgroup_dynamic)
		return wanted_cgroup(cgroup);
	if (!config.cgroup_count)
		return !config.command;
#pragma unroll
	for (u32 i = 0; i < MDF_MAX_CGROUPS; i++) {
		if (i < config.cgroup_count && ancestor_id(cgroup, config.cgroup_levels[i]) == config.cgroups[i])
			return true;
	}
	return false;
}

/* The same for the current task, more cheaply. */
static __always_inline bool current_in_cgroups(struct task_struct *current)
{
	if (config.cgroup_dynamic)
		return wanted_cgroup(task_cgroup((void *)bpf_get_current_task()));
	if (!config.cgroup_count)
		return !config.command;
#pragma unroll
	for (u32 i = 0; i < MDF_MAX_CGROUPS; i++) {
		if (i < config.cgroup_count &&
		    current_ancestor_id(current, config.cgroup_levels[i]) == config.cgroups[i])
			return true;
	}
	return false;
}

/* Whether cgroups and ancestors together select a process: both must be right; with a command either is enough. */
static __always_inline bool select_place(bool inside, u32 tgid)
{
	if (config.command && (inside || !strays))
		return inside;
	if (!config.command && !inside)
		return false;
	return !config.pid_filter || bpf_map_lookup_elem(&followed, &tgid);
}

/* The name of a process, and zeros. Before 5.17 the kernel leaves the end of a longer, earlier name after the NUL. */
static __always_inline void read_comm(struct task_struct *task, void *comm)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	__builtin_memset(comm, 0, COMM_LEN);
	bpf_core_read_str(comm, COMM_LEN, &leader->comm);
}

static __always_inline bool select_comm(struct task_struct *task)
{
	u64 comm[COMM_LEN / sizeof(u64)];
	const volatile u64 *wanted = (const volatile u64 *)config.comm;

	read_comm(task, comm);
	return comm[0] == wanted[0] && comm[1] == wanted[1];
}

/* Whether the current task is recorded. */
static __always_inline bool select_task(struct task_struct *current, u32 tgid)
{
	if (tgid == control.own_tgid)
		return control.only_self;
	if (control.only_self)
		return false;
	if (!select_place(current_in_cgroups(current), tgid))
		return false;
	if (config.comm_filter && !select_comm((void *)bpf_get_current_task()))
		return false;
	return true;
}

static __always_inline bool select_current(u32 tgid)
{
	return select_task(current_task(), tgid);
}

/* What a program does for the current task, if it is recorded. */
#define IF_SELECTED(call) (select_current(bpf_get_current_pid_tgid() >> 32) ? (call) : 0)

/* Whether no cgroup alone can answer the filter with yes. */
static __always_inline bool filter_needs_process(void)
{
	return (config.pid_filter && !config.command) || config.comm_filter || control.only_self;
}

static __always_inline bool wanted_port(u16 port)
{
	return wanted_ports[port >> 3] >> (port & 7) & 1;
}

static __always_inline bool select_ports(u16 local, u16 remote)
{
	return !config.port_filter || control.only_self || wanted_port(local) || wanted_port(remote);
}

static __always_inline bool select_netns(u32 netns)
{
	return !config.netns || netns == config.netns || control.only_self;
}

static __always_inline u32 task_netns(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

#endif
