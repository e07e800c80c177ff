/* The kernel side of the recorder: copies and counts; never interprets. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "event.h"
#include "maps.h"
#include "emit.h"
#include "load.h"
#include "filter.h"
#include "sock.h"
#include "state.h"
#include "path.h"
#include "process.h"
#include "payload.h"
#include "move.h"
#include "iter.h"
#include "syscall.h"
#include "socktp.h"
#include "fexit.h"
#include "kprobe.h"
#include "systp.h"

/* Some of the helpers are only for programs under a GPL-compatible license. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
