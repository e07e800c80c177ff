//! The worker with its sources: which updates it sends, and when.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::options::{Environment, Options};
use super::super::report::Report;
use super::super::worker::{Attribution, Start, Update, try_sources};
use super::server::{Server, Step};
use super::{list, pod, timing};
use crate::format::record::LossReason;
use crate::pods::select::{Selectors, Words};
use crate::record::cgroup::Tree;
use crate::record::drain::{Drain, DrainConfig, Outlets};
use crate::record::loss::Count;
use crate::record::output::Rotation;
use crate::record::source::monitor::KernelLosses;

const ID: &str = "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
/// Where Podman keeps the lists of a user, in his folder.
const STORAGE: &str = ".local/share/containers/storage";
const UID: &str = "2f7a1c9e-1111-2222-3333-444455556666";

fn start(root: &Path, change: impl FnOnce(&mut Start)) -> Attribution {
    start_with(root, Report::new(|_| {}), change)
}

fn start_with(root: &Path, report: Report, change: impl FnOnce(&mut Start)) -> Attribution {
    let mut start = Start {
        options: Options {
            host_root: Some(root.to_owned()),
            ..Options::default()
        },
        environment: Environment::default(),
        timing: timing(),
        selectors: Selectors::default(),
        tree: None,
        selection: None,
        left_out: Vec::new(),
    };
    change(&mut start);
    Attribution::start(start, report).unwrap()
}

/// Waits for an update of this kind.
fn wait<T>(names: &Attribution, mut pick: impl FnMut(&Update) -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if let Some(found) = names.updates().find_map(|update| pick(&update)) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no such update");
}

fn workload(update: &Update) -> Option<(u64, String)> {
    match update {
        Update::Workload { cgroup, named, .. } => Some((
            *cgroup,
            format!("{}/{} {}", named.namespace, named.pod, named.container),
        )),
        _ => None,
    }
}

fn path() -> String {
    format!("/kubepods/burstable/pod{UID}/{ID}")
}

fn make_logs(root: &Path, pod: &str, container: &str) {
    std::fs::create_dir_all(root.join(format!("var/log/pods/shop_{pod}_{UID}/{container}"))).unwrap();
    let links = root.join("var/log/containers");
    std::fs::create_dir_all(&links).unwrap();
    let target = format!("/var/log/pods/shop_{pod}_{UID}/{container}/0.log");
    std::os::unix::fs::symlink(target, links.join(format!("{pod}_shop_{container}-{ID}.log"))).unwrap();
}

#[test]
fn names_that_appear_after_the_cgroup_are_found() {
    let root = tempfile::tempdir().unwrap();
    let names = start(root.path(), |_| {});
    names.learner().learn(7, path().as_bytes(), true);
    assert_eq!(wait(&names, workload), (7, "/ ".to_owned()), "the path alone, at once");
    make_logs(root.path(), "cart-0", "app");
    assert_eq!(wait(&names, workload), (7, "shop/cart-0 app".to_owned()));
}

#[test]
fn names_are_looked_for_a_last_time_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    let names = start(root.path(), |_| {});
    names.learner().learn(7, path().as_bytes(), true);
    make_logs(root.path(), "cart-0", "app");
    let told: Vec<_> = names
        .close(Duration::from_secs(60))
        .iter()
        .filter_map(workload)
        .collect();
    assert_eq!(told.last(), Some(&(7, "shop/cart-0 app".to_owned())));
}

#[test]
fn a_server_that_hangs_stalls_nobody() {
    let server = Server::start(|_, _| vec![Step::Hang]);
    let root = tempfile::tempdir().unwrap();
    make_logs(root.path(), "cart-0", "app");
    let account = tempfile::tempdir().unwrap();
    std::fs::write(account.path().join("ca.crt"), super::CA).unwrap();
    std::fs::write(account.path().join("token"), "secret-token").unwrap();
    let names = start(root.path(), |start| {
        start.timing.answer = Duration::from_secs(3600);
        start.environment.service_account = account.path().to_owned();
        start.environment.api_host = Some(server.address.ip().to_string());
        start.environment.api_port = Some(server.address.port().to_string());
        start.options.kubelet = Some(server.address.to_string());
    });
    server.wait_for(3);
    let begun = Instant::now();
    names.learner().learn(7, path().as_bytes(), true);
    assert_eq!(
        wait(&names, |update| workload(update).filter(|(_, name)| name != "/ ")).1,
        "shop/cart-0 app"
    );
    names.close(Duration::from_secs(2));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "nobody waits for the servers"
    );
}

#[test]
fn in_a_pod_the_api_server_is_asked_with_the_service_account() {
    let server = Server::start(|_, asked| {
        match asked.path.as_str() {
        path if path.contains("watch=1") => vec![Step::Begin, Step::Hang],
        path if path.starts_with("/api/v1/services") => vec![Step::Answer(
            200,
            r#"{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"cart","namespace":"shop","uid":"s"},"spec":{"clusterIP":"10.43.0.9","selector":{"app":"cart-0"}}}]}"#.into(),
        )],
        _ => vec![Step::Answer(200, list(&[pod("cart-0", UID, 1)], 1, ""))],
    }
    });
    let account = tempfile::tempdir().unwrap();
    std::fs::write(account.path().join("ca.crt"), super::CA).unwrap();
    std::fs::write(account.path().join("token"), "secret-token\n").unwrap();
    let root = tempfile::tempdir().unwrap();
    let names = start(root.path(), |start| {
        start.environment.service_account = account.path().to_owned();
        start.environment.api_host = Some(server.address.ip().to_string());
        start.environment.api_port = Some(server.address.port().to_string());
        start.environment.node_name = Some("node1".into());
    });
    names.learner().learn(7, path().as_bytes(), true);
    let mut found = Vec::new();
    wait(&names, |update| {
        match update {
            Update::Address { ip, name, .. } => {
                found.push(format!("{ip} {:?} {}/{}", name.kind, name.namespace, name.name))
            }
            update => found.extend(workload(update).map(|(_, name)| name)),
        }
        let all = ["shop/cart-0 ", "10.42.3.7 Pod", "10.43.0.9 Service"];
        all.iter()
            .all(|start| found.iter().any(|name| name.starts_with(start)))
            .then_some(())
    });
    assert!(found.contains(&"10.42.3.7 Pod shop/cart-0".to_owned()), "{found:?}");
    assert!(found.contains(&"10.43.0.9 Service shop/cart".to_owned()), "{found:?}");
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.authorization == "Bearer secret-token")
    );
}

#[test]
fn chosen_pods_are_followed_when_their_names_are_known_and_others_are_not_stored() {
    let root = tempfile::tempdir().unwrap();
    let tree = tempfile::tempdir().unwrap();
    // Static pods' uid form, in a tree that exists before the start.
    std::fs::create_dir_all(tree.path().join(&path()[1..])).unwrap();
    make_logs(root.path(), "cart-0", "app");
    let names = start(root.path(), |start| {
        start.tree = Some(Tree::at(tree.path()));
        start.selectors = Selectors::new(Words {
            pods: vec!["shop/*".into()],
            ..Words::default()
        })
        .unwrap();
    });
    assert!(names.learner().selective);
    let id = |path: &str| Tree::at(tree.path()).id(path.as_bytes()).unwrap();
    let (of_pod, of_container) = (id(&format!("/kubepods/burstable/pod{UID}")), id(&path()));
    let followed = wait(&names, |update| match update {
        Update::Follow(id) => Some(*id),
        Update::Workload { .. } | Update::Cgroup { .. } => panic!("{update:?} before it was chosen"),
        _ => None,
    });
    assert_eq!(followed, of_pod, "the pod takes its containers with it");
    let mut stored = Vec::new();
    wait(&names, |update| {
        match update {
            Update::Cgroup { id, .. } => stored.push(*id),
            Update::Follow(id) => panic!("{id} is recorded already"),
            _ => {}
        }
        workload(update).filter(|(cgroup, _)| *cgroup == of_container)
    });
    assert!(stored.contains(&of_container) && stored.contains(&of_pod), "{stored:?}");
    // Another namespace: known, and neither followed nor stored.
    let other = "bbbbbbbb-1111-2222-3333-444455556666";
    std::fs::create_dir_all(root.path().join(format!("var/log/pods/bank_ledger_{other}/app"))).unwrap();
    names
        .learner()
        .learn(99, format!("/kubepods/burstable/pod{other}").as_bytes(), false);
    let rest = names.close(Duration::from_secs(60));
    let about_it = |update: &&Update| {
        matches!(
            update,
            Update::Follow(99) | Update::Cgroup { id: 99, .. } | Update::Workload { cgroup: 99, .. }
        )
    };
    assert_eq!(rest.iter().filter(about_it).count(), 0, "{rest:?}");
}

#[test]
fn a_chosen_pod_whose_cgroup_record_was_lost_is_found_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    make_logs(root.path(), "cart-0", "app");
    let other = "bbbbbbbb-1111-2222-3333-444455556666";
    std::fs::create_dir_all(root.path().join(format!("var/log/pods/shop_cart-1_{other}/app"))).unwrap();
    let tree = Tree::at(folder.path());
    let make = |uid: &str| -> u64 {
        let path = format!("/kubepods/burstable/pod{uid}");
        std::fs::create_dir_all(tree.directory(path.as_bytes())).unwrap();
        tree.id(path.as_bytes()).unwrap()
    };
    let first = make(UID);
    let names = start(root.path(), |start| {
        start.tree = Some(tree.clone());
        start.selectors = Selectors::new(Words {
            pods: vec!["shop/*".into()],
            ..Words::default()
        })
        .unwrap();
    });
    let followed = |update: &Update| match update {
        Update::Follow(id) => Some(*id),
        _ => None,
    };
    assert_eq!(wait(&names, followed), first, "there at the start");
    let config = DrainConfig {
        block_age: Duration::from_secs(1),
        rotation: Rotation::default(),
        ring: None,
        max_events: None,
        max_sockets: 10,
        proc: false,
        v1: false,
    };
    let mut drain = Drain::new(config, Outlets::default(), Default::default(), None, 0);
    drain.report_cgroups_to(names.learner());
    // The record of this one does not come.
    let second = make(other);
    let losses = KernelLosses::from_iter([(LossReason::RingFull, Count { events: 1, bytes: 0 })]);
    drain.kernel_losses(&losses, 1);
    assert_eq!(wait(&names, followed), second);
}

/// Makes the list of a user's containers; who runs the test is that user, if it is not root. Returns the user's number.
fn make_list(root: &Path, list: &str) -> u32 {
    make_list_of(root, ("alice", 1234), list)
}

fn make_list_of(root: &Path, (name, user): (&str, u32), list: &str) -> u32 {
    let home = root.join("home").join(name);
    let driver = home.join(STORAGE).join("overlay-containers");
    std::fs::create_dir_all(&driver).unwrap();
    std::fs::write(driver.join("containers.json"), list).unwrap();
    give(&home, user)
}

/// Gives all that is in a folder to a user, if who runs the test may.
fn give(folder: &Path, user: u32) -> u32 {
    if !crate::record::sys::is_root() {
        return crate::record::sys::user();
    }
    std::os::unix::fs::lchown(folder, Some(user), Some(user)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => drop(give(&entry.path(), user)),
            false => std::os::unix::fs::lchown(entry.path(), Some(user), Some(user)).unwrap(),
        }
    }
    user
}

/// The reported state of the files of Docker and Podman.
fn runtimes(root: &Path) -> String {
    let options = Options {
        host_root: Some(root.to_owned()),
        ..Options::default()
    };
    let said = try_sources(&options, &Environment::default(), timing());
    let files = said.iter().find(|status| status.source == "docker and podman files");
    files.unwrap().what.clone()
}

/// A small list; one of 15 MiB, which is none, by eleven names; and one that is too large beside these.
fn make_large_lists(root: &Path) -> u32 {
    make_list(root, &format!(r#"[{{"id":"{ID}","names":["web"]}}]"#));
    let home = root.join("home/alice");
    let folder = |letter: char| home.join(STORAGE).join(format!("{letter}-containers"));
    let make = |path: &Path, len: u64| std::fs::File::create(path).unwrap().set_len(len).unwrap();
    let large = folder('p').join("containers.json");
    for letter in 'p'..='z' {
        std::fs::create_dir(folder(letter)).unwrap();
        match letter {
            'p' => make(&large, 15 << 20),
            _ => std::fs::hard_link(&large, folder(letter).join("containers.json")).unwrap(),
        }
    }
    make(&folder('p').join("volatile-containers.json"), 2 << 20);
    give(&home, 1234)
}

#[test]
fn a_list_is_read_once_and_one_users_lists_have_one_bound() {
    let root = tempfile::tempdir().unwrap();
    make_large_lists(root.path());
    make_list_of(
        root.path(),
        ("bob", 1235),
        &format!(r#"[{{"id":"{ID}","names":["db"]}}]"#),
    );
    let said = runtimes(root.path());
    for who in ["alice", "bob"] {
        let list = format!("/home/{who}/{STORAGE}/overlay-containers/containers.json");
        assert!(said.contains("1 containers in") && said.contains(&list), "{said}");
    }
    assert_eq!(
        said.matches("/containers.json is not read: expected value").count(),
        1,
        "{said}"
    );
    for part in [
        "/p-containers/volatile-containers.json is not read: with the others of the same user it has more than 16.0 MiB",
        "/w-containers is not read: there are more than 8 folders of this kind",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_list_that_is_not_read_is_told_once_while_recording() {
    let root = tempfile::tempdir().unwrap();
    let user = make_large_lists(root.path());
    let told = Arc::<Mutex<Vec<String>>>::default();
    let to = Arc::clone(&told);
    let names = start_with(
        root.path(),
        Report::new(move |text| to.lock().unwrap().push(text)),
        |_| {},
    );
    let learn = |number: u64, id: &str| {
        let path = format!("/user.slice/user-{user}.slice/libpod-{id}.scope");
        names.learner().learn(number, path.as_bytes(), true);
    };
    learn(1, ID);
    assert_eq!(
        wait(&names, |update| workload(update).filter(|(_, name)| name != "/ ")),
        (1, "/ web".to_owned())
    );
    // All are looked at again for another one of his, which is in no list.
    let list = root.path().join("list");
    std::fs::write(&list, "{}").unwrap();
    if crate::record::sys::is_root() {
        std::os::unix::fs::chown(&list, Some(user), Some(user)).unwrap();
    }
    let storage = root.path().join("home/alice").join(STORAGE);
    std::fs::rename(list, storage.join("q-containers/volatile-containers.json")).unwrap();
    learn(2, &ID.replace('3', "4"));
    let count = |part: &str| {
        let told = told.lock().unwrap();
        told.iter().filter(|text| text.contains(part)).count()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while count("/q-containers") == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    for list in ["p-containers/", "p-containers/volatile-", "q-containers/volatile-"] {
        assert_eq!(
            count(&format!("/{list}containers.json is not read: ")),
            1,
            "{list}: {told:?}"
        );
    }
    assert_eq!(count("/w-containers is not read: "), 1, "{told:?}");
}

#[test]
fn what_is_no_list_or_names_too_many_is_told() {
    let root = tempfile::tempdir().unwrap();
    let many = [r#"{"id":"3a","names":["web"]}"#; 20_000].join(",");
    make_list(root.path(), &format!("[{many}]"));
    make_list_of(root.path(), ("bob", 1235), "[{");
    let driver = "evil\u{202e}\u{1b}[2J-containers";
    let folder = root.path().join("home/bob").join(STORAGE).join(driver);
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("containers.json")).unwrap();
    give(&root.path().join("home/bob"), 1235);
    let said = runtimes(root.path());
    assert!(
        said.contains("is not read: it names more than 16384 containers"),
        "{said}"
    );
    assert!(said.contains("is not read: EOF while parsing"), "{said}");
    assert!(
        said.contains("evil\\u{202e}\\x1b[2J-containers/containers.json is not read"),
        "{said}"
    );
}

#[test]
fn a_user_names_his_own_containers_and_nobody_elses() {
    let root = tempfile::tempdir().unwrap();
    let user = make_list(root.path(), &format!(r#"[{{"id":"{ID}","names":["web"]}}]"#));
    let names = start(root.path(), |_| {});
    let scope = format!("libpod-{ID}.scope");
    let slice = |user: u32| format!("/user.slice/user-{user}.slice/user@{user}.service/user.slice/{scope}");
    for (id, path) in [
        (1, format!("/machine.slice/{scope}")),
        (2, slice(user + 1)),
        (3, slice(user)),
    ] {
        names.learner().learn(id, path.as_bytes(), true);
    }
    assert_eq!(
        wait(&names, |update| workload(update).filter(|(_, name)| name != "/ ")),
        (3, "/ web".to_owned())
    );
    let told = names.close(Duration::from_secs(60));
    let others = told
        .iter()
        .filter_map(workload)
        .filter(|(id, name)| *id != 3 && name != "/ ")
        .count();
    assert_eq!(others, 0, "{told:?}");
}

/// As root, reading these would never end, or never begin.
#[test]
fn what_users_put_in_the_place_of_lists_stalls_nobody() {
    let root = tempfile::tempdir().unwrap();
    let user = make_list(root.path(), "[]");
    let storage = root.path().join("home/alice/.local/share/containers/storage");
    for driver in ["zero-containers", "fifo-containers", "large-containers"] {
        std::fs::create_dir(storage.join(driver)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", storage.join("zero-containers/containers.json")).unwrap();
    let fifo = storage.join("fifo-containers/containers.json");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let large = std::fs::File::create(storage.join("large-containers/containers.json")).unwrap();
    large.set_len(1 << 40).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.path().join("home/bob")).unwrap();

    let options = Options {
        host_root: Some(root.path().to_owned()),
        ..Options::default()
    };
    let said = try_sources(&options, &Environment::default(), timing());
    let files = said
        .iter()
        .find(|status| status.source == "docker and podman files")
        .unwrap();
    assert_eq!(files.what.matches("containers in").count(), 1, "{said:?}");

    let names = start(root.path(), |_| {});
    let path = format!("/user.slice/user-{user}.slice/libpod-{ID}.scope");
    names.learner().learn(1, path.as_bytes(), true);
    wait(&names, workload);
    make_logs(root.path(), "cart-0", "app");
    names.learner().learn(7, self::path().as_bytes(), true);
    assert_eq!(
        wait(&names, |update| workload(update)
            .filter(|(id, name)| *id == 7 && name != "/ "))
        .1,
        "shop/cart-0 app"
    );
}

/// Without TLS any user of the node can answer in the kubelet's place.
#[test]
fn nobody_is_asked_for_pods_without_proof_of_who_answers() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("var/lib/kubelet/pki")).unwrap();
    std::fs::write(root.path().join("var/lib/kubelet/pki/kubelet.crt"), super::CA).unwrap();
    let environment = Environment {
        hostname: "node1".to_owned(),
        ..Environment::default()
    };
    for (kubelet, asked) in [
        (None, "https://node1:10250"),
        (Some("node2"), "https://node2:10250"),
        (Some("10.0.0.1"), "https://10.0.0.1:10250"),
        (Some("node2:1234"), "https://node2:1234"),
    ] {
        let options = Options {
            host_root: Some(root.path().to_owned()),
            kubelet: kubelet.map(str::to_owned),
            ..Options::default()
        };
        let client = options.kubelet(&environment, timing()).unwrap().unwrap();
        assert_eq!(client.base(), asked);
    }
}

/// Where cgroups come faster than they are taken, those that exist are found all the same.
#[test]
fn more_cgroups_than_may_wait_are_looked_for() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join(&path()[1..])).unwrap();
    let root = tempfile::tempdir().unwrap();
    let names = start(root.path(), |start| start.tree = Some(Tree::at(tree.path())));
    let learner = names.learner();
    // The worker may take some of these meanwhile; it walks when there were more than may wait at one time.
    learner.overflow();
    learner.learn(1, path().as_bytes(), true);
    let id = Tree::at(tree.path()).id(path().as_bytes()).unwrap();
    assert_eq!(
        wait(&names, |update| workload(update).filter(|(found, _)| *found == id)).0,
        id
    );
}
