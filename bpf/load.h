/* Reading kernel memory on the hot path. */
#ifndef MDF_LOAD_H
#define MDF_LOAD_H

/* A field of a kernel struct. BPF_CORE_READ calls a helper for each pointer that it follows; where the kernel has
 * bpf_rdonly_cast (6.2) the same is one load, which gives zero when the address is bad.
 */
#define LOAD(type, at, field)                                                                                          \
	(config.plain_loads ? bpf_core_cast(at, type)->field : BPF_CORE_READ((type *)(at), field))

/* The pointer at an address: the first field of a small struct that every kernel's BTF has. */
static __always_inline void *load_pointer(const void *at)
{
	return LOAD(struct hlist_head, at, first);
}

static __always_inline u64 cgroup_id(const struct cgroup *cgroup)
{
	struct kernfs_node *node;

	if (!cgroup)
		return 0;
	node = LOAD(struct cgroup, cgroup, kn);
	return LOAD(struct kernfs_node, node, id);
}

/* Who makes the call: asked once, because each helper costs about as much as all the loads. */
static __always_inline struct task_struct *current_task(void)
{
	return config.plain_loads ? bpf_get_current_task_btf() : NULL;
}

/* Thread group and thread, as bpf_get_current_pid_tgid gives them. */
static __always_inline u64 current_id(struct task_struct *current)
{
	if (!config.plain_loads)
		return bpf_get_current_pid_tgid();
	return (u64)current->tgid << 32 | (u32)current->pid;
}

static __always_inline u64 current_cgroup_id(struct task_struct *current)
{
	if (!config.plain_loads)
		return bpf_get_current_cgroup_id();
	return cgroup_id(current->cgroups->dfl_cgrp);
}

/* The id of the current task's ancestor cgroup at a level that is known at load time; 0: it is not that deep. */
static __always_inline u64 current_ancestor_id(struct task_struct *current, u32 level)
{
	struct cgroup *cgroup;

	if (!config.plain_loads)
		return bpf_get_current_ancestor_cgroup_id(level);
	cgroup = current->cgroups->dfl_cgrp;
	if (LOAD(struct cgroup, cgroup, level) < (int)level)
		return 0;
	return cgroup_id(load_pointer((void *)cgroup + bpf_core_field_offset(((struct cgroup *)0)->ancestors) +
				      level * sizeof(void *)));
}

#endif
