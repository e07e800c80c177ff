/* The payload of a system call, found through its arguments. For the backends socktp and systp. */
#ifndef MDF_SYSCALL_H
#define MDF_SYSCALL_H

#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_RECVMMSG 299
#define NR_SENDMMSG 307
#define NR_PREADV2 327
#define NR_PWRITEV2 328
#define TS_COMPAT 2
#elif defined(__TARGET_ARCH_arm64)
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#define NR_RECVMMSG 243
#define NR_SENDMMSG 269
#define NR_PREADV2 286
#define NR_PWRITEV2 287
#define TIF_32BIT 22
#endif

/* struct user_msghdr and struct mmsghdr of the user ABI, 64 bits. */
struct message {
	u64 name;
	u64 name_len;
	u64 vector;
	u64 count;
	u64 control;
	u64 control_len;
	u64 flags;
};
struct many_message {
	struct message message;
	u64 len;
};

/* The vector of a message. */
static __always_inline long read_message(const struct message *message, struct scratch_start *start)
{
	u64 count = 0;

	if (bpf_probe_read_user(&start->vector, sizeof(start->vector), &message->vector) ||
	    bpf_probe_read_user(&count, sizeof(count), &message->count))
		return -1;
	start->count = count;
	return 0;
}

enum shape {
	SHAPE_NONE, /* not a call that moves bytes this way */
	SHAPE_FLAT, /* (fd, buffer, …) */
	SHAPE_VECTOR, /* (fd, vector, count, …) */
	SHAPE_MESSAGE, /* (fd, message, …) */
	SHAPE_MANY, /* (fd, messages, count, …) */
};

struct call {
	u64 number;
	u64 fd;
	u64 second;
	u64 third;
	u64 fourth;
};

/* The flags that the program gave (MSG_OOB, …). */
static __always_inline u64 call_flags(const struct call *call)
{
	switch (call->number) {
	case NR_SENDMSG:
	case NR_RECVMSG:
		return call->third;
	case NR_SENDTO:
	case NR_RECVFROM:
	case NR_SENDMMSG:
	case NR_RECVMMSG:
		return call->fourth;
	}
	return 0;
}

static __always_inline enum shape call_shape(u64 number, u8 direction)
{
	if (direction == MDF_SENT) {
		switch (number) {
		case NR_WRITE:
		case NR_SENDTO:
			return SHAPE_FLAT;
		case NR_WRITEV:
		case NR_PWRITEV2:
			return SHAPE_VECTOR;
		case NR_SENDMSG:
			return SHAPE_MESSAGE;
		case NR_SENDMMSG:
			return SHAPE_MANY;
		}
	} else {
		switch (number) {
		case NR_READ:
		case NR_RECVFROM:
			return SHAPE_FLAT;
		case NR_READV:
		case NR_PREADV2:
			return SHAPE_VECTOR;
		case NR_RECVMSG:
			return SHAPE_MESSAGE;
		case NR_RECVMMSG:
			return SHAPE_MANY;
		}
	}
	return SHAPE_NONE;
}

/* Which message of a sendmmsg or recvmmsg this is: counted in the socket's entry, from 0 whenever the call is another
 * than last time. A message that was not moved whole ends the call. A recvmmsg that ends before its last message would
 * be taken for one that goes on; with MSG_WAITFORONE (do_recvmmsg() adds MSG_DONTWAIT after the first message) the
 * first one shows itself.
 */
static __always_inline u32 next_of_many(struct entry *entry, const struct call *call, const struct mdf_data *head,
					bool first)
{
	u32 index = 0;

	if (!first && entry->many_base == call->second && entry->many_tid == head->tid &&
	    entry->many_direction == head->direction)
		index = entry->many_next;
	if (index >= call->third)
		index = 0;
	entry->many_base = call->second;
	entry->many_tid = head->tid;
	entry->many_direction = head->direction;
	entry->many_next = index + 1;
	return index;
}

/* The data record of a call whose arguments are known. */
static __always_inline void emit_call(struct mdf_data *head, struct entry *entry, const struct call *call,
				      enum shape shape, bool first, u32 slot)
{
	struct scratch_start start = { .kind = USER_IN_USER };
	u64 at = call->second;

	if (shape == SHAPE_FLAT) {
		emit_user(head, (void *)call->second);
		return;
	}
	if (shape == SHAPE_VECTOR) {
		start.vector = call->second;
		start.count = call->third;
		emit_vector(head, &start, slot);
		return;
	}
	if (shape == SHAPE_MANY)
		at += next_of_many(entry, call, head, first) * sizeof(struct many_message);
	if (read_message((struct message *)at, &start)) {
		head->cut = MDF_CUT_PAGE_FAULT;
		count_loss(MDF_LOSS_PAGE_FAULT, head->len);
		emit_bare(head);
		return;
	}
	emit_vector(head, &start, slot);
}

#endif
