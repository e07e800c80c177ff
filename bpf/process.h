/* Processes and control groups. Shared by all backends. */
#ifndef MDF_PROCESS_H
#define MDF_PROCESS_H

#define MAX_ARGV 4096
#define MAX_CGROUP_PATH 1024

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 4

/* /proc/PID/stat counts in hundredths of a second; the same rounding makes both name a process alike. */
#define CLOCK_TICK_NS 10000000ULL

static __always_inline u64 start_time(struct task_struct *task)
{
	u64 start = BPF_CORE_READ(task, group_leader, start_boottime);

	return start - start % CLOCK_TICK_NS;
}

/* The pid in the innermost pid namespace of the process. */
static __always_inline u32 pid_in_ns(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	u32 level = BPF_CORE_READ(pid, level);
	struct upid upid = {};
	void *at = (void *)pid + bpf_core_field_offset(((struct pid *)0)->numbers) +
		   level * bpf_core_type_size(struct upid);

	bpf_probe_read_kernel(&upid, sizeof(upid), at);
	return upid.nr;
}

static __always_inline void fill_process(struct mdf_process *record, struct task_struct *task, u8 origin)
{
	record->kind = MDF_PROCESS;
	record->origin = origin;
	record->pad = 0;
	record->pid = BPF_CORE_READ(task, tgid);
	record->time = bpf_ktime_get_boot_ns();
	record->start = start_time(task);
	record->cgroup = cgroup_id(task_cgroup(task));
	record->ppid = BPF_CORE_READ(task, real_parent, tgid);
	record->pid_in_ns = pid_in_ns(task);
	record->uid = BPF_CORE_READ(task, real_cred, uid.val);
	record->netns = task_netns(task);
	read_comm(task, record->comm);
	record->exe_len = 0;
	record->argv_len = 0;
	record->argv_total = 0;
	record->pad2 = 0;
}

static __always_inline struct process_key process_key(struct task_struct *task)
{
	struct process_key key = { .start = start_time(task), .pid = BPF_CORE_READ(task, tgid) };

	return key;
}

/* The record of a fork or an execve did not fit into the ring. */
static __always_inline void defer_process(struct task_struct *task, u8 origin)
{
	struct process_key key = process_key(task);
	struct pending_process value = { .time = bpf_ktime_get_boot_ns(), .origin = origin };

	bpf_map_update_elem(&pending_processes, &key, &value, BPF_ANY);
}

/* The pending record of a process that exits. Its arguments are gone by now. */
static __always_inline void emit_pending_process(struct task_struct *task, const struct process_key *key)
{
	struct pending_process *pending = bpf_map_lookup_elem(&pending_processes, key);
	struct mdf_process *record;

	if (!pending)
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record)
		return;
	fill_process(record, task, pending->origin);
	record->time = pending->time;
	submit(record, sizeof(*record));
	bpf_map_delete_elem(&pending_processes, key);
}

static __always_inline void follow(struct task_struct *task, u32 tgid, u32 of_command)
{
	struct followed value = { .start = start_time(task), .of_command = of_command };

	if (bpf_map_update_elem(&followed, &tgid, &value, BPF_ANY))
		count_loss(MDF_LOSS_MAP_FULL, 0);
	else if (config.command && !in_cgroups(task_cgroup(task)))
		strays = 1;
}

/* A new process is followed if its parent is. If not, its number may have been that of a followed process whose end was
 * missed.
 */
static __always_inline void follow_child(struct task_struct *child, u32 pid)
{
	u32 parent = bpf_get_current_pid_tgid() >> 32;
	struct followed *known = bpf_map_lookup_elem(&followed, &parent);

	if (known)
		follow(child, pid, known->of_command);
	else
		bpf_map_delete_elem(&followed, &pid);
}

/* The recorder's command was forked before the programs were attached, and a fork can be missed. */
static __always_inline void follow_late(struct task_struct *task, u32 tgid)
{
	u32 parent = BPF_CORE_READ(task, real_parent, tgid);
	struct followed *known;

	if (bpf_map_lookup_elem(&followed, &tgid))
		return;
	known = bpf_map_lookup_elem(&followed, &parent);
	if (config.command && parent == control.own_tgid)
		follow(task, tgid, 1);
	else if (known)
		follow(task, tgid, known->of_command);
}

/* In the parent. */
static __always_inline int forked(struct task_struct *child)
{
	struct mdf_process *record;
	u32 pid = BPF_CORE_READ(child, tgid);

	/* A thread is not a process. */
	if (BPF_CORE_READ(child, pid) != (int)pid || BPF_CORE_READ(child, flags) & PF_KTHREAD)
		return 0;
	if (config.pid_filter)
		follow_child(child, pid);
	if (control.only_self || !select_place(in_cgroups(task_cgroup(child)), pid))
		return 0;
	if (config.comm_filter && !select_comm(child))
		return 0;
	if (!select_netns(task_netns(child)))
		return 0;
	record = RESERVE(struct mdf_process);
	if (!record) {
		defer_process(child, MDF_ORIGIN_FORK);
		return 0;
	}
	fill_process(record, child, MDF_ORIGIN_FORK);
	submit(record, sizeof(*record));
	return 0;
}

/* (parent, child) */
SEC("raw_tp/sched_process_fork")
int process_forked(struct bpf_raw_tracepoint_args *ctx)
{
	return forked((struct task_struct *)ctx->args[1]);
}

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

SEC("tp/sched/sched_process_fork")
int process_forked_nopreempt(struct trace_event_raw_sched_process_fork *ctx)
{
	struct task_struct *child = bpf_task_from_pid(ctx->child_pid);

	if (child) {
		forked(child);
		bpf_task_release(child);
	}
	return 0;
}

/* In the task. */
static __always_inline int executed(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u32 slot = SLOT_EXEC;
	struct scratch *scratch;
	struct mdf_process *record;
	struct process_key key;
	struct path_room *room;
	unsigned long start, end;
	u64 size, length;
	u8 *tail;
	u32 at;

	if (config.pid_filter)
		follow_late(task, tgid);
	if (!select_current(tgid))
		return 0;
	if (!select_netns(task_netns(task)))
		return 0;
	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	record = (struct mdf_process *)scratch->payload;
	tail = (u8 *)(record + 1);
	fill_process(record, task, MDF_ORIGIN_EXEC);

	room = (struct path_room *)(scratch->payload + MDF_MAX_SNAPLEN);
	at = write_path(room, BPF_CORE_READ(task, mm, exe_file));
	size = MAX_EXE - at;
	asm volatile("" : "+r"(at), "+r"(size));
	if (at > MAX_EXE || size > MAX_EXE || bpf_probe_read_kernel(tail, size, &room->text[at]))
		size = 0;
	record->exe_len = size;

	start = BPF_CORE_READ(task, mm, arg_start);
	end = BPF_CORE_READ(task, mm, arg_end);
	record->argv_total = end > start ? end - start : 0;
	length = record->argv_total;
	if (length > MAX_ARGV)
		length = MAX_ARGV;
	asm volatile("" : "+r"(size), "+r"(length));
	if (size <= MAX_EXE && length <= MAX_ARGV) {
		if (bpf_probe_read_user(tail + size, length, (void *)start)) {
			length = 0;
			count_loss(MDF_LOSS_PAGE_FAULT, 0);
		}
		record->argv_len = length;
		size += length + sizeof(*record);
		asm volatile("" : "+r"(size));
		if (size > sizeof(*record) + MAX_EXE + MAX_ARGV)
			return 0;
		if (output(record, size, 0, wakeup_flag(0))) {
			/* It replaces an earlier one. */
			key = process_key(task);
			bpf_map_delete_elem(&pending_processes, &key);
		} else {
			defer_process(task, MDF_ORIGIN_EXEC);
		}
	}
	return 0;
}

SEC("raw_tp/sched_process_exec")
int process_executed(struct bpf_raw_tracepoint_args *ctx)
{
	return executed();
}

SEC("tp/sched/sched_process_exec")
int process_executed_nopreempt(void *ctx)
{
	return executed();
}

/* In the exiting task. */
static __always_inline int exited_one(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct mdf_exit *record;
	struct process_key key;
	u32 one = 1;
	bool selected;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	selected = select_current(tgid);
	if (config.pid_filter)
		bpf_map_delete_elem(&followed, &tgid);
	if (!selected || !select_netns(task_netns(task)))
		return 0;
	key = process_key(task);
	emit_pending_process(task, &key);
	record = RESERVE(struct mdf_exit);
	if (!record)
		return 0;
	if (bpf_map_update_elem(&exited, &key, &one, BPF_NOEXIST)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 0;
	}
	record->kind = MDF_EXIT;
	record->pad = 0;
	record->pid = tgid;
	record->time = bpf_ktime_get_boot_ns();
	record->start = key.start;
	/* exit_group and fatal signals are the group's; otherwise wait(2) returns what the first thread left. */
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		record->status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		record->status = BPF_CORE_READ(task, group_leader, exit_code);
	record->pad2 = 0;
	submit(record, sizeof(*record));
	return 0;
}

SEC("raw_tp/sched_process_exit")
int process_exited(struct bpf_raw_tracepoint_args *ctx)
{
	return exited_one();
}

SEC("tp/sched/sched_process_exit")
int process_exited_nopreempt(void *ctx)
{
	return exited_one();
}

/* Whether a cgroup is of version 2: in the hierarchy of every task's default cgroup. The ids of others mean something else. */
static __always_inline bool is_v2(struct cgroup *cgroup)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(cgroup, root) == BPF_CORE_READ(task, cgroups, dfl_cgrp, root);
}

/* Both programs that call it run while the one lock of all cgroups is held, so they may share a slot. */
static __always_inline int emit_cgroup(struct cgroup *cgroup, const void *path)
{
	u32 slot = SLOT_CGROUP;
	struct scratch *scratch;
	struct mdf_cgroup *record;
	u64 size;
	long got;

	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	record = (struct mdf_cgroup *)scratch->payload;
	record->kind = MDF_CGROUP;
	record->pad = 0;
	record->time = bpf_ktime_get_boot_ns();
	record->id = cgroup_id(cgroup);
	got = bpf_probe_read_kernel_str(record + 1, MAX_CGROUP_PATH, path);
	size = got > 0 ? got - 1 : 0;
	record->path_len = size;
	size += sizeof(*record);
	asm volatile("" : "+r"(size));
	/* At once, however little the ring holds: the names of a container are looked up while it lives. */
	if (size <= sizeof(*record) + MAX_CGROUP_PATH)
		output(record, size, 0, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* (cgroup, path) */
SEC("raw_tp/cgroup_mkdir")
int cgroup_made(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (struct cgroup *)ctx->args[0];

	if (!is_v2(cgroup) || (!config.all_cgroups && (control.only_self || !in_cgroups(cgroup))))
		return 0;
	return emit_cgroup(cgroup, (void *)ctx->args[1]);
}

/* (cgroup, path, task, threadgroup): a followed process moves to a cgroup that may not have been named yet. */
SEC("raw_tp/cgroup_attach_task")
int cgroup_entered(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (struct cgroup *)ctx->args[0];
	u32 tgid = BPF_CORE_READ((struct task_struct *)ctx->args[2], tgid);

	if (!config.pid_filter || !is_v2(cgroup) || !bpf_map_lookup_elem(&followed, &tgid))
		return 0;
	if (config.command && !in_cgroups(cgroup))
		strays = 1;
	return control.only_self ? 0 : emit_cgroup(cgroup, (void *)ctx->args[1]);
}

/* Run once by user space: finds the kernel's own variables without reading through /proc/kallsyms (5.16 and later). */
const char vmemmap_base_name[] = "vmemmap_base";
const char page_offset_base_name[] = "page_offset_base";

SEC("syscall")
int find_pages(void *ctx)
{
	u64 address = 0;

	if (bpf_kallsyms_lookup_name(vmemmap_base_name, sizeof(vmemmap_base_name), 0, &address))
		return 1;
	pages.vmemmap_base = address;
	if (bpf_kallsyms_lookup_name(page_offset_base_name, sizeof(page_offset_base_name), 0, &address)) {
		pages.vmemmap_base = 0;
		return 1;
	}
	pages.page_offset_base = address;
	return 0;
}

/* Run once by user space, in its own context: the thread group as the initial pid namespace numbers it. */
SEC("raw_tp")
int whoami(struct bpf_raw_tracepoint_args *ctx)
{
	control.own_tgid = bpf_get_current_pid_tgid() >> 32;
	return 0;
}

#endif
