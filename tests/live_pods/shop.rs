//! A shop of three tiers, real programs all: frontend -> cart (Python) -> MariaDB, each in a pod of its own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Form, Node, Place, end, serve, text};
use crate::support::{Guard, all_installed, free_port, not_run, run};

/// What the load asks for: pages of the frontend itself, carts (two queries each), and what fails (one query each).
const PAGES: usize = 5;
const CARTS: usize = 23;
const BROKEN: usize = 4;

/// MariaDB with the tables of the shop. It writes down each query that it is asked.
struct Database {
    port: u16,
    log: PathBuf,
    _process: Guard,
}

impl Database {
    fn start(node: &Node, place: &Place) -> Database {
        let path = |name: &str| node.dir.path().join(name).display().to_string();
        let port = free_port();
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", &format!("--datadir={}", path("data")), "--user=root"])
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"]))
        .expect_code(&[0]);
        let process = node
            .command(place, "mariadbd")
            .args([
                "--no-defaults",
                "--user=root",
                "--bind-address=127.0.0.1",
                "--general-log=1",
            ])
            .args([
                format!("--datadir={}", path("data")),
                format!("--socket={}", path("socket")),
            ])
            .args([format!("--pid-file={}", path("pid")), format!("--port={port}")])
            .arg(format!("--general-log-file={}", path("queries")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let database = Database {
            port,
            log: path("queries").into(),
            _process: Guard(process.expect("start mariadbd")),
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "mariadbd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let tables =
            "CREATE DATABASE shop; USE shop; CREATE TABLE cart (id INT, item TEXT); CREATE TABLE price (price INT)";
        run(Command::new("mariadb").args(["-h127.0.0.1", "-uroot", "-P", &port.to_string(), "-e", tables]))
            .expect_code(&[0]);
        database
    }

    fn queries(&self) -> usize {
        let log = fs::read_to_string(&self.log).expect("the general log");
        log.lines().filter(|line| line.contains(" Query\t")).count()
    }
}

/// The four pods as `kubectl get pods -A -o json` prints them.
fn pod_list(places: &[(&Place, &str, &str)]) -> Value {
    let items = places.iter().map(|(place, kind, owner)| {
        let hash = place.pod.split('-').nth(1).unwrap_or_default();
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": place.pod, "namespace": place.namespace, "uid": place.uid, "labels": {"pod-template-hash": hash},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "controller": true, "uid": "x"}]},
            "status": {"containerStatuses": [{"name": "app", "containerID": format!("containerd://{}", place.id)}]}})
    });
    json!({"kind": "List", "apiVersion": "v1", "items": items.collect::<Vec<_>>()})
}

#[test]
fn the_service_map_of_a_shop_is_right_row_for_row() {
    let name = "the service map of a shop";
    if !all_installed(name, &["mariadbd", "mariadb-install-db", "mariadb", "curl"]) {
        return;
    }
    let has_pymysql = |python: &&str| {
        let found = Command::new(python).args(["-c", "import pymysql"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_pymysql) else {
        return not_run(name, "Python has no pymysql");
    };
    let Some(node) = Node::new("shop") else { return };
    let pods = [
        "load-5c9f7d8b6-aaaaa",
        "frontend-7d4f9c6b5-x2x2x",
        "cart-0",
        "mariadb-0",
    ];
    let [load, frontend, cart, mariadb] = pods.map(|pod| Place::new(Form::SystemdContainerd, "shop", pod, "app"));
    [&load, &frontend, &cart, &mariadb]
        .into_iter()
        .for_each(|place| node.make(place));
    let list = node.dir.path().join("pods.json");
    let owners = [
        (&load, "ReplicaSet", "load-5c9f7d8b6"),
        (&frontend, "ReplicaSet", "frontend-7d4f9c6b5"),
        (&cart, "StatefulSet", "cart"),
        (&mariadb, "StatefulSet", "mariadb"),
    ];
    fs::write(&list, pod_list(&owners).to_string()).expect("write");

    let database = Database::start(&node, &mariadb);
    let program = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live_pods").join(name);
    let (at_cart, _cart) = serve(
        node.command(&cart, python)
            // No compiled modules in the source tree.
            .arg("-B")
            .arg(program("cart.py"))
            .arg(database.port.to_string()),
    );
    let (at_frontend, _frontend) = serve(
        node.command(&frontend, python)
            .arg("-B")
            .arg(program("frontend.py"))
            .arg(at_cart.to_string()),
    );
    let queries_before = database.queries();
    let recorder = node.record(&[
        "--cgroup",
        &node.own(),
        "--pods",
        &list.display().to_string(),
        "--print",
    ]);
    // One connection for all of it, as curl does.
    let urls = [
        format!("http://{at_frontend}/index.html#[1-{PAGES}]"),
        format!("http://{at_frontend}/cart/[1-{CARTS}]"),
        format!("http://{at_frontend}/broken#[1-{BROKEN}]"),
    ];
    run(node.command(&load, "curl").arg("-s").args(urls)).expect_code(&[0]);
    let (messages, printed) = recorder.stop();
    let queries = database.queries() - queries_before;
    assert!(queries >= 2 * CARTS + BROKEN, "{queries} in the general log");

    let map: Vec<Value> = node
        .rows("services", &[])
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_u64().unwrap_or(0);
            assert!(number("bytes") > 0, "{row}");
            let (p50, p95, p99) = (number("p50_ns"), number("p95_ns"), number("p99_ns"));
            assert!(0 < p50 && p50 <= p95 && p95 <= p99, "{row}");
            let columns = ["caller", "callee", "protocol", "requests", "errors", "connections"];
            json!(columns.map(|name| row[name].clone()))
        })
        .collect();
    let expected = [
        json!(["shop/cart", "shop/mariadb", "mysql", queries, BROKEN, 1]),
        json!(["shop/load", "shop/frontend", "http", PAGES + CARTS + BROKEN, BROKEN, 1]),
        json!(["shop/frontend", "shop/cart", "http", CARTS + BROKEN, BROKEN, 1]),
    ];
    assert_eq!(map, expected, "{messages}");

    let workloads = [
        ("client_workload", "StatefulSet/cart"),
        ("server_workload", "StatefulSet/mariadb"),
    ];
    for row in node.rows("mysql", &[]) {
        for (column, workload) in workloads {
            assert_eq!(text(&row, column), workload, "{row}");
        }
    }
    let at = |place: &Place, workload: &str| format!("shop {} app {workload}", place.pod);
    let load = at(&load, "Deployment/load");
    let frontend = at(&frontend, "Deployment/frontend");
    let (cart, mariadb) = (at(&cart, "StatefulSet/cart"), at(&mariadb, "StatefulSet/mariadb"));
    for (table, of, ends) in [
        ("endpoints", "service = 'shop/frontend'", [&load, &frontend]),
        ("endpoints", "service = 'shop/cart'", [&frontend, &cart]),
        ("digests", "service = 'shop/mariadb'", [&cart, &mariadb]),
        ("services", "callee = 'shop/frontend'", [&load, &frontend]),
        ("services", "callee = 'shop/cart'", [&frontend, &cart]),
        ("services", "callee = 'shop/mariadb'", [&cart, &mariadb]),
    ] {
        let rows = node.rows(table, &["--where", of]);
        assert!(!rows.is_empty(), "{table} where {of}");
        for row in rows {
            assert_eq!([&end(&row, "client"), &end(&row, "server")], ends, "{row}");
        }
    }
    let live = |method_and_path: &str| {
        let is_it = |line: &&str| {
            line.contains("-> Pod: shop/frontend-7d4f9c6b5-x2x2x ")
                && line.contains(&format!(" GET {at_frontend}{method_and_path}"))
                && line.ends_with(" ms)")
        };
        printed.lines().filter(is_it).count()
    };
    assert_eq!(live("/index.html 200 ("), PAGES, "{printed}");
    assert_eq!(live("/cart/"), CARTS, "{printed}");
    assert_eq!(live("/broken 500 ("), BROKEN, "{printed}");
}
