/* The path of a file, as the kernel writes it in /proc/PID/exe. bpf_d_path is not there for programs at tracepoints. */
#ifndef MDF_PATH_H
#define MDF_PATH_H

/* The longest path that is written; a power of two. */
#define MAX_EXE 1024
/* Names and mount points on the way up to the root. */
#define MAX_PARTS 64
#define NAME_MAX 255

/* Room to write a path from its end to its beginning. The verifier adds the two bounds. */
struct path_room {
	u8 text[MAX_EXE + 1 + NAME_MAX];
};

/* Writes the path of a file from the root of its mount namespace and returns where in the room it begins; it ends at MAX_EXE.
 * MAX_EXE: it is longer than that, or deeper than MAX_PARTS.
 */
static __always_inline u32 write_path(struct path_room *room, struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	void *vfsmount = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	u32 at = MAX_EXE;
	int part;

	for (part = 0; part < MAX_PARTS; part++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		const unsigned char *name;
		u32 len;

		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount)
				return at;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		len = BPF_CORE_READ(dentry, d_name.len);
		name = BPF_CORE_READ(dentry, d_name.name);
		if (len > NAME_MAX || len >= at)
			return MAX_EXE;
		at -= len + 1;
		asm volatile("" : "+r"(at), "+r"(len));
		at &= MAX_EXE - 1;
		len &= NAME_MAX;
		room->text[at] = '/';
		if (bpf_probe_read_kernel(&room->text[at + 1], len, name))
			return MAX_EXE;
		/* Files that no directory has: memfd_create(2). */
		if (dentry == parent)
			return at;
		dentry = parent;
	}
	return MAX_EXE;
}

#endif
