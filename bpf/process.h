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
	__builtin_memset(record->comm, 0, sizeof(record->comm));
	BPF_CORE_READ_INTO(&record->comm, task, group_leader, comm);
	record->exe_len = 0;
	record->argv_len = 0;
	record->argv_total = 0;
	record->pad2 = 0;
}

/* In the parent. */
static __always_inline int forked(struct task_struct *child)
{
	struct mdf_process *record;
	u32 pid = BPF_CORE_READ(child, tgid);
	u32 parent;

	/* A thread is not a process. */
	if (BPF_CORE_READ(child, pid) != (int)pid || BPF_CORE_READ(child, flags) & PF_KTHREAD)
		return 0;
	parent = bpf_get_current_pid_tgid() >> 32;
	if (config.pid_filter) {
		u32 one = 1;

		if (!bpf_map_lookup_elem(&followed, &parent))
			return 0;
		if (bpf_map_update_elem(&followed, &pid, &one, BPF_ANY)) {
			count_loss(MDF_LOSS_MAP_FULL, 0);
			return 0;
		}
	}
	if (!select_cgroup(task_cgroup(child)))
		return 0;
	if (config.comm_filter && !select_comm(child))
		return 0;
	if (!select_netns(task_netns(child)))
		return 0;
	record = RESERVE(struct mdf_process);
	if (!record)
		return 0;
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
int process_forked_calm(struct trace_event_raw_sched_process_fork *ctx)
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
	struct path_room *room;
	unsigned long start, end;
	u64 size, length;
	u8 *tail;
	u32 at;

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
		if (size <= sizeof(*record) + MAX_EXE + MAX_ARGV)
			output(record, size, 0, wakeup_flag(0));
	}
	return 0;
}

SEC("raw_tp/sched_process_exec")
int process_executed(struct bpf_raw_tracepoint_args *ctx)
{
	return executed();
}

SEC("tp/sched/sched_process_exec")
int process_executed_calm(void *ctx)
{
	return executed();
}

/* In the exiting task. */
static __always_inline int exited_one(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct mdf_exit *record;
	struct exit_key key = {};
	u32 one = 1;
	bool selected;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	selected = select_current(tgid);
	if (config.pid_filter)
		bpf_map_delete_elem(&followed, &tgid);
	if (!selected || !select_netns(task_netns(task)))
		return 0;
	key.start = start_time(task);
	key.pid = tgid;
	if (bpf_map_update_elem(&exited, &key, &one, BPF_NOEXIST))
		return 0;
	record = RESERVE(struct mdf_exit);
	if (!record)
		return 0;
	record->kind = MDF_EXIT;
	record->pad = 0;
	record->pid = tgid;
	record->time = bpf_ktime_get_boot_ns();
	record->start = key.start;
	/* exit_group and fatal signals are the group's; otherwise wait(2) tells what the first thread left. */
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
int process_exited_calm(void *ctx)
{
	return exited_one();
}

/* (cgroup, path); also fires for v1 hierarchies, whose ids mean something else. */
SEC("raw_tp/cgroup_mkdir")
int cgroup_made(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (struct cgroup *)ctx->args[0];
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 slot = SLOT_CGROUP;
	struct scratch *scratch;
	struct mdf_cgroup *record;
	u64 size;
	long got;

	/* The default hierarchy is the one in which every task's default cgroup lies. */
	if (BPF_CORE_READ(cgroup, root) != BPF_CORE_READ(task, cgroups, dfl_cgrp, root))
		return 0;
	if (!config.all_cgroups && !select_cgroup(cgroup))
		return 0;
	scratch = bpf_map_lookup_elem(&scratches, &slot);
	if (!scratch)
		return 0;
	record = (struct mdf_cgroup *)scratch->payload;
	record->kind = MDF_CGROUP;
	record->pad = 0;
	record->time = bpf_ktime_get_boot_ns();
	record->id = cgroup_id(cgroup);
	got = bpf_probe_read_kernel_str(record + 1, MAX_CGROUP_PATH, (void *)ctx->args[1]);
	size = got > 0 ? got - 1 : 0;
	record->path_len = size;
	size += sizeof(*record);
	asm volatile("" : "+r"(size));
	/* At once, however little the ring holds: the names of a container are looked up while it lives. */
	if (size <= sizeof(*record) + MAX_CGROUP_PATH)
		output(record, size, 0, BPF_RB_FORCE_WAKEUP);
	return 0;
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
