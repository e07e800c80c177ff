//! The command that is to be recorded: in a cgroup of its own, and held back until the probes are attached.
//!
//! Without a v2 hierarchy (or the right to make a cgroup) it runs in the recorder's own cgroup. The kernel side follows the whole
//! tree, also outside of the cgroup.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cgroup::{Tree, path_of_process};
use super::sys;
use super::user::User;

/// A cgroup that this process made. Dropping it removes it; processes still in it are moved to the cgroup above.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    id: u64,
}

impl Home {
    /// Makes a cgroup below the recorder's own.
    pub fn make(tree: &Tree) -> io::Result<Home> {
        let text = std::fs::read("/proc/self/cgroup")?;
        let own = path_of_process(&text).unwrap_or(b"/");
        let folder = tree.directory(own).join(format!("mdf-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let mut home = Home { folder, id: 0 };
        let path = tree.path_of(&home.folder).ok_or(io::ErrorKind::InvalidInput)?;
        home.id = tree.id(&path)?;
        Ok(home)
    }

    /// The cgroup's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn remove(&self) -> io::Result<()> {
        // Deepest first; the command may have made cgroups of its own.
        let mut folders = vec![self.folder.clone()];
        let mut at = 0;
        while let Some(folder) = folders.get(at).cloned() {
            folders.extend(subfolders(&folder));
            at += 1;
        }
        folders.iter().rev().try_for_each(std::fs::remove_dir)
    }
}

/// The processes in the cgroup of this folder and below.
pub fn pids_below(folder: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        todo.extend(subfolders(&folder));
    }
    pids
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect()
}

impl Drop for Home {
    fn drop(&mut self) {
        // A process that has just ended can keep its cgroup busy for a moment, so a few tries.
        for _ in 0..50 {
            if self.remove().is_ok() {
                return;
            }
            if let Some(above) = self.folder.parent() {
                for pid in pids_below(&self.folder) {
                    let _ = std::fs::write(above.join("cgroup.procs"), pid.to_string());
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What has become of the command.
#[derive(Debug)]
pub enum Fate {
    Running,
    /// [`Child::status`] has how.
    Ended,
    /// It could not be started.
    Failed(io::Error),
}

/// A command, held back or running.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    home: Option<Home>,
    gate: Option<PipeWriter>,
    starter: Option<JoinHandle<io::Result<std::process::Child>>>,
    process: Option<std::process::Child>,
    status: Option<ExitStatus>,
}

/// How a command runs, where that is not as this process does.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// With all of their groups, and an environment that names them.
    pub user: Option<User>,
    /// What it prints goes to standard error.
    pub output_to_error: bool,
}

impl Child {
    /// Makes the process, in its cgroup, stopped before it becomes the command.
    #[allow(unsafe_code, reason = "runs between fork and exec")]
    pub fn prepare(words: &[OsString], setting: &Setting, tree: Option<&Tree>) -> Result<Child> {
        let (program, arguments) = words.split_first().context("no command")?;
        find(program)?;
        let home = tree.and_then(|tree| Home::make(tree).ok());
        let procs = match &home {
            Some(home) => Some(File::options().write(true).open(home.folder.join("cgroup.procs"))?),
            None => None,
        };
        let (mut pid_reader, mut pid_writer) = io::pipe()?;
        let (mut gate_reader, gate) = io::pipe()?;
        let gate_number = gate.as_raw_fd();
        let mut command = Command::new(program);
        command.args(arguments);
        if setting.output_to_error {
            command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
        }
        let user = setting.user.clone();
        for (variable, value) in user.iter().flat_map(User::environment) {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        // SAFETY: runs between fork and exec, so only calls that are safe in a signal handler are made: write, getpid,
        // close and read on descriptors that were opened before, signal, and those that change the user. `gate_number` is
        // the child's own copy of the gate's writing end, owned by nobody in the child; without closing it, the end of the
        // recorder would go unnoticed.
        unsafe {
            command.pre_exec(move || {
                libc::close(gate_number);
                if let Some(procs) = &procs {
                    (&*procs).write_all(b"0")?;
                }
                // What this process ignores, the command would.
                libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
                // Last, because afterwards the cgroup is out of reach.
                if let Some(user) = &user {
                    sys::become_user(user)?;
                }
                pid_writer.write_all(&std::process::id().to_ne_bytes())?;
                match gate_reader.read(&mut [0])? {
                    0 => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    _ => Ok(()),
                }
            });
        }
        // spawn returns when the command has begun to run, so it needs a thread of its own.
        let starter = std::thread::Builder::new()
            .name("starter".into())
            .spawn(move || command.spawn())?;
        let mut pid = [0; 4];
        if let Err(error) = pid_reader.read_exact(&mut pid) {
            let why = starter.join().ok().and_then(Result::err).unwrap_or(error);
            return Err(why).with_context(|| format!("cannot start {}", program.display()));
        }
        Ok(Child {
            pid: u32::from_ne_bytes(pid),
            home,
            gate: Some(gate),
            starter: Some(starter),
            process: None,
            status: None,
        })
    }

    /// The process, as this process's pid namespace numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The cgroup made for it.
    pub fn cgroup(&self) -> Option<u64> {
        self.home.as_ref().map(Home::id)
    }

    /// The folder of that cgroup.
    pub fn cgroup_folder(&self) -> Option<&Path> {
        self.home.as_ref().map(|home| home.folder.as_path())
    }

    /// Lets it run.
    pub fn start(&mut self) -> io::Result<()> {
        self.gate.take().map_or(Ok(()), |mut gate| gate.write_all(b"!"))
    }

    /// What has become of the command itself; others of its tree may still run. Does not wait, and reads no file.
    pub fn look(&mut self) -> Fate {
        if let Some(starter) = self.starter.take_if(|starter| starter.is_finished()) {
            match starter.join() {
                Ok(Ok(process)) => self.process = Some(process),
                Ok(Err(error)) => return Fate::Failed(error),
                Err(_) => return Fate::Failed(io::Error::other("the starting thread ended")),
            }
        }
        if self.status.is_none()
            && let Some(process) = &mut self.process
        {
            self.status = process.try_wait().ok().flatten();
        }
        match self.status {
            Some(_) => Fate::Ended,
            None => Fate::Running,
        }
    }

    /// How the command itself ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Asks the command to end, if it runs in no cgroup of its own: what is in one is asked with all others of its tree. Only
    /// here: nobody else knows that the pid is still its own.
    pub fn ask_to_end(&self, knows: impl Fn(u32) -> bool) {
        if self.home.is_none() && self.status.is_none() && !knows(self.pid) {
            let _ = sys::signal(self.pid, libc::SIGTERM);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A command that was never let go ends now. The thread that started it reads the pipe of its errors,
        // and must not end before it.
        if self.gate.take().is_some()
            && let Some(starter) = self.starter.take()
        {
            let _ = starter.join();
        }
    }
}

/// Fails when there is no such program or it cannot be executed, so that nothing is attached and no file is made for it.
fn find(program: &OsStr) -> Result<()> {
    let is_path = program.as_bytes().contains(&b'/');
    let places: Vec<PathBuf> = match is_path {
        true => vec![program.into()],
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .map(|folder| folder.join(program))
                .collect()
        }
    };
    let mut why = "there is no such program";
    for place in places {
        match place.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => return Ok(()),
            Ok(metadata) if metadata.is_file() => why = "it is not executable (permission denied)",
            Ok(_) if is_path => why = "it is not a file",
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => why = "permission denied",
            Ok(_) | Err(_) => {}
        }
    }
    bail!("cannot run {}: {why}", program.display())
}

/// The exit code for how a command ended, as shells give it: its own, or 128 and the signal that killed it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// How a command ended, as text.
pub fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn end(child: &mut Child) -> Fate {
        loop {
            match child.look() {
                Fate::Running => std::thread::yield_now(),
                fate => return fate,
            }
        }
    }

    #[test]
    fn a_command_does_nothing_before_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made");
        let mut child = Child::prepare(&words(&["touch", file.to_str().unwrap()]), &Setting::default(), None).unwrap();
        assert!(matches!(child.look(), Fate::Running));
        let command = std::fs::read(format!("/proc/{}/exe", child.pid()));
        assert!(command.is_ok(), "it exists");
        assert!(!file.exists());
        child.start().unwrap();
        assert!(matches!(end(&mut child), Fate::Ended));
        assert!(child.status().unwrap().success());
        assert!(file.exists());
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        let mut child = Child::prepare(&words(&["sh", "-c", "exit 3"]), &Setting::default(), None).unwrap();
        child.start().unwrap();
        assert!(matches!(end(&mut child), Fate::Ended));
        assert_eq!(status_text(child.status().unwrap()), "exited with 3");
    }

    #[test]
    fn a_command_that_does_not_exist_is_refused_before_anything_is_made() {
        for name in ["/no/such/program", "no-such-program", "/"] {
            let error = Child::prepare(&words(&[name]), &Setting::default(), None)
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_program_is_not_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "text").unwrap();
        let why = |name: &Path| find(name.as_os_str()).unwrap_err().to_string();
        assert!(why(&plain).ends_with("it is not executable (permission denied)"));
        assert!(why(folder.path()).ends_with("it is not a file"));
        assert!(why(&folder.path().join("none")).ends_with("there is no such program"));
        assert!(why(&plain.join("below")).ends_with("there is no such program"));
        assert!(find(OsStr::new("sh")).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_executed_fails_when_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broken");
        std::fs::write(&file, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut child = Child::prepare(&words(&[file.to_str().unwrap()]), &Setting::default(), None).unwrap();
        child.start().unwrap();
        assert!(matches!(end(&mut child), Fate::Failed(_)));
    }

    #[test]
    fn a_command_that_is_never_let_go_ends_without_having_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made");
        let child = Child::prepare(&words(&["touch", file.to_str().unwrap()]), &Setting::default(), None).unwrap();
        let command = format!("/proc/{}", child.pid());
        assert!(Path::new(&command).exists());
        drop(child);
        assert!(!Path::new(&command).exists(), "it has ended, and was waited for");
        assert!(!file.exists());
    }

    #[test]
    fn a_command_is_asked_to_end() {
        let mut child = Child::prepare(&words(&["sleep", "1000"]), &Setting::default(), None).unwrap();
        child.start().unwrap();
        while child.process.is_none() {
            assert!(matches!(child.look(), Fate::Running));
        }
        child.ask_to_end(|_| false);
        assert!(matches!(end(&mut child), Fate::Ended));
        assert_eq!(status_text(child.status().unwrap()), "was killed by signal 15");
    }
}
