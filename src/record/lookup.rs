//! What the kernel's events leave open is looked up in /proc and in the cgroup tree, on a thread that may be slow: the thread
//! that reads the ring does no file-system work, it asks and takes answers.
//!
//! The queue of questions is bounded. A question that finds no room is asked again when its process or cgroup shows itself
//! again.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Instant;

use super::cgroup::{self, Entry, Tree};
use super::snapshot::{self, Found};
use super::{privilege, sys};

/// Questions that wait for the thread.
const QUESTIONS_MAX: usize = 8192;

/// What is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The process of this pid.
    Process(u32),
    /// The v1 cgroup of this pid that names its container.
    Container(u32),
    /// The path of a cgroup; a process that was in it.
    Cgroup { id: u64, pid: u32 },
    /// The paths of cgroups, by a walk of the tree; and which of the `known` ones are gone.
    Cgroups { unnamed: Vec<u64>, known: Vec<u64> },
}

/// What was found; one for each question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: it has ended, or it is the kernel's own.
    Process(u32, Option<Box<Found>>),
    /// With the start of the process.
    Container(u32, Option<(u64, Entry)>),
    Cgroup(u64, Option<Vec<u8>>),
    Cgroups {
        named: Vec<Entry>,
        unnamed: Vec<u64>,
        gone: HashSet<u64>,
    },
}

/// The end that asks.
#[derive(Debug)]
pub struct Lookups {
    to: SyncSender<Question>,
    from: Receiver<Answer>,
    /// Questions without an answer so far.
    open: usize,
}

impl Lookups {
    /// Starts the thread, with this nice value.
    pub fn start(tree: Option<Tree>, nice: i32) -> io::Result<Lookups> {
        let (lookups, questions, answers) = Lookups::channel(QUESTIONS_MAX);
        std::thread::Builder::new().name("lookups".into()).spawn(move || {
            sys::set_priority(nice);
            let _all = privilege::read_all();
            for question in questions {
                if answers.send(look_up(question, tree.as_ref())).is_err() {
                    break;
                }
            }
        })?;
        Ok(lookups)
    }

    /// With room for this number of questions, and the two ends of the thread that answers.
    pub fn channel(room: usize) -> (Lookups, Receiver<Question>, Sender<Answer>) {
        let (to, questions) = mpsc::sync_channel(room);
        let (answers, from) = mpsc::channel();
        (Lookups { to, from, open: 0 }, questions, answers)
    }

    /// Asks, if there is room. Never waits.
    pub fn ask(&mut self, question: Question) -> bool {
        let asked = self.to.try_send(question).is_ok();
        self.open += usize::from(asked);
        asked
    }

    /// The next answer, if there is one.
    pub fn answer(&mut self) -> Option<Answer> {
        let answer = self.from.try_recv().ok();
        self.open -= usize::from(answer.is_some());
        answer
    }

    /// The next answer; nothing when all questions are answered, or when it takes too long.
    pub fn wait(&mut self, until: Instant) -> Option<Answer> {
        if self.open == 0 {
            return None;
        }
        let answer = self
            .from
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok();
        self.open -= usize::from(answer.is_some());
        answer
    }

    /// Questions without an answer so far.
    pub fn open(&self) -> usize {
        self.open
    }
}

fn look_up(question: Question, tree: Option<&Tree>) -> Answer {
    match question {
        Question::Process(pid) => Answer::Process(pid, snapshot::process(pid, tree).map(Box::new)),
        Question::Container(pid) => Answer::Container(pid, snapshot::container(pid)),
        Question::Cgroup { id, pid } => Answer::Cgroup(id, tree.and_then(|tree| path_of(id, pid, tree))),
        Question::Cgroups { unnamed, known } => {
            let mut paths = tree.map(Tree::by_id).unwrap_or_default();
            let gone = known.into_iter().filter(|id| !paths.contains_key(id)).collect();
            let (mut named, mut left) = (Vec::new(), Vec::new());
            for id in unnamed {
                match paths.remove(&id) {
                    Some(path) => named.push(Entry { id, path }),
                    None => left.push(id),
                }
            }
            Answer::Cgroups {
                named,
                unnamed: left,
                gone,
            }
        }
    }
}

/// The path of a cgroup, if this process is still in it.
fn path_of(id: u64, pid: u32, tree: &Tree) -> Option<Vec<u8>> {
    let text = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let path = tree.absolute(cgroup::path_of_process(&text)?);
    tree.id(&path).is_ok_and(|found| found == id).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn each_question_has_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let id = std::fs::metadata(folder.path().join("a")).unwrap().ino();
        let mut lookups = Lookups::start(Some(Tree::at(folder.path())), 0).unwrap();
        let own = std::process::id();
        let questions = [
            Question::Process(own),
            Question::Process(u32::MAX),
            Question::Container(u32::MAX),
            Question::Cgroup { id, pid: own },
            Question::Cgroups {
                unnamed: vec![id, 0],
                known: vec![id, 1],
            },
        ];
        assert!(questions.into_iter().all(|question| lookups.ask(question)));
        let answers: Vec<Answer> = std::iter::from_fn(|| lookups.wait(soon())).collect();
        assert!(matches!(&answers[0], Answer::Process(pid, Some(found)) if *pid == own && found.pid == own));
        let path = b"/a".to_vec();
        assert_eq!(
            answers[1..],
            [
                Answer::Process(u32::MAX, None),
                Answer::Container(u32::MAX, None),
                // This process is in no cgroup of that tree.
                Answer::Cgroup(id, None),
                Answer::Cgroups {
                    named: vec![Entry { id, path }],
                    unnamed: vec![0],
                    gone: HashSet::from([1]),
                },
            ]
        );
        assert_eq!(lookups.open(), 0);
    }

    #[test]
    fn who_asks_never_waits() {
        let (mut lookups, questions, answers) = Lookups::channel(2);
        let asked = (0..5).filter(|pid| lookups.ask(Question::Process(*pid))).count();
        assert_eq!((asked, lookups.open()), (2, 2));
        assert_eq!(lookups.answer(), None);
        assert_eq!(lookups.wait(Instant::now()), None, "not for ever");
        drop((questions, answers));
        assert!(!lookups.ask(Question::Process(9)));
        assert_eq!(lookups.wait(soon()), None, "nobody is left to answer");
    }
}
