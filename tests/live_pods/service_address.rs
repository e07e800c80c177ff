//! A client dials the address of a Service, and the kernel sends it to a pod, as kube-proxy has it do: both ends of the
//! connection are one row. In network namespaces of our own, with rules of nftables.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::node::{Form, Node, Place, serve, text};
use crate::support::{all_installed, not_run, run, traffic_gen_path};

/// Two network namespaces and the wire between them; dropping them removes both.
struct Net {
    client: String,
    server: String,
}

impl Net {
    fn new() -> Result<Net, String> {
        let name = |end: &str| format!("mdf-test-{}-{end}", std::process::id());
        let net = Net {
            client: name("client"),
            server: name("server"),
        };
        let (client, server) = (&net.client, &net.server);
        for line in [
            format!("netns add {client}"),
            format!("netns add {server}"),
            format!("link add eth0 netns {client} type veth peer name eth0 netns {server}"),
            format!("-n {client} addr add 10.77.0.1/24 dev eth0"),
            format!("-n {server} addr add 10.77.0.2/24 dev eth0"),
            format!("-n {client} link set eth0 up"),
            format!("-n {server} link set eth0 up"),
            format!("-n {client} route add 10.96.0.0/16 via 10.77.0.2"),
        ] {
            let finished = run(Command::new("ip").args(line.split(' ')));
            if finished.code() != 0 {
                return Err(format!("ip {line}: {}", finished.stderr.trim()));
            }
        }
        Ok(net)
    }

    /// Sends what is for the Service to the pod; with `masquerade` the client gets another port as well.
    fn translate(&self, masquerade: bool) -> Result<(), String> {
        let masquerade = match masquerade {
            true => {
                "type nat hook postrouting priority 100\n ip daddr 10.77.0.2 tcp dport 8080 snat to 10.77.0.1:50000-50999\n"
            }
            false => "type nat hook postrouting priority 100\n",
        };
        let rules = format!(
            "flush ruleset\ntable ip mdf {{\n chain out {{\n type nat hook output priority -100\n \
             ip daddr 10.96.0.10 tcp dport 80 dnat to 10.77.0.2:8080\n }}\n chain post {{\n {masquerade} }}\n}}\n"
        );
        let nft = Command::new("ip")
            .args(["netns", "exec", &self.client, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut nft = nft.map_err(|error| error.to_string())?;
        let mut input = nft.stdin.take().expect("stdin is a pipe");
        let written = input.write_all(rules.as_bytes());
        drop(input);
        let output = nft.wait_with_output().map_err(|error| error.to_string())?;
        match output.status.success() && written.is_ok() {
            true => Ok(()),
            false => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// A command of `place` in one of the namespaces.
    fn command(&self, node: &Node, place: &Place, namespace: &str) -> Command {
        let mut command = node.command(place, "ip");
        command.args(["netns", "exec", namespace]).arg(traffic_gen_path());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

#[test]
fn both_ends_of_a_connection_through_a_service_are_one_row() {
    let name = "connections through the address of a Service";
    if !all_installed(name, &["ip", "nft"]) {
        return;
    }
    let Some(node) = Node::new("service-address") else {
        return;
    };
    let net = match Net::new() {
        Ok(net) => net,
        Err(why) => return not_run(name, &why),
    };
    let frontend = Place::new(Form::SystemdContainerd, "shop", "frontend-0", "app");
    let cart = Place::new(Form::SystemdContainerd, "shop", "cart-0", "app");
    node.make(&frontend);
    node.make(&cart);
    let listen = ["serve-http", "--address", "10.77.0.2", "--port", "8080"];
    let (_, _cart) = serve(net.command(&node, &cart, &net.server).args(listen));
    if let Err(why) = net.translate(false) {
        return not_run(name, &why);
    }
    for masquerade in [false, true] {
        net.translate(masquerade).expect("rules as before, and one more");
        let recorder = node.record(&["--cgroup", &node.own()]);
        let finished = run(net.command(&node, &frontend, &net.client).args([
            "http",
            "--connect",
            "10.96.0.10:80",
            "-n",
            "12",
            "-c",
            "3",
        ]))
        .expect_code(&[0]);
        let (messages, _) = recorder.stop();

        let rows = node.rows("http", &[]);
        assert_eq!(rows.len(), 12, "{messages}{}", finished.stdout);
        for row in &rows {
            let who = ["client_pod", "server_pod", "client_ip", "server_ip", "side"].map(|column| text(row, column));
            assert_eq!(who, ["frontend-0", "cart-0", "10.77.0.1", "10.77.0.2", "both"], "{row}");
            assert_eq!(row["server_port"], 8080, "{row}");
            assert!(row["network_ns"].as_u64().is_some(), "both ends were seen: {row}");
        }
        let connections: Vec<Value> = node
            .rows("connections", &[])
            .iter()
            .filter(|row| row["exchanges"].as_u64() > Some(0))
            .map(|row| json!([row["side"], row["exchanges"]]))
            .collect();
        assert_eq!(connections, vec![json!(["both", 4]); 3]);
        // Blocks are chosen by either end's names of the connection.
        assert_eq!(node.rows("http", &["--port", "8080"]).len(), 12);
        let map = node.rows("services", &[]);
        assert_eq!(map.len(), 1, "{map:#?}");
    }
}
