//! What is listened to. A source is a folder: the programs that it attaches, what their records mean, and what was lost on the
//! way. It knows the kernel; it knows nothing of files, queues or protocols.

pub mod tcp;
