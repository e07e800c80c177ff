//! Programs that people use: curl, Python, Node.

use std::process::Command;

use crate::harness::Live;
use crate::support::{count, free_port};

/// A Python that has this module.
fn python_with(module: &str) -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let found = Command::new(python).args(["-c", &format!("import {module}")]).output();
        found.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn curl_and_the_http_server_of_python() {
    let Some(live) = Live::begin("curl and http.server", &["curl", "python3", "bash"]) else {
        return;
    };
    let (port, dir) = (free_port(), live.dir.path().display());
    live.write("page.txt", &"a page of the test\n".repeat(50));
    let recorded = live.record_script(
        &[],
        &format!(
            "cd {dir}\npython3 -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1 & \nawait_port {port}\n\
             url=http://127.0.0.1:{port}\n\
             for i in 1 2 3 4 5; do curl -s -o /dev/null $url/page.txt?n=$i; done\n\
             curl -s -I -o /dev/null $url/page.txt\n\
             curl -s -o /dev/null $url/missing\n\
             kill %1\nwait %1 || true"
        ),
    );
    recorded.expect_clean();
    recorded.expect_no_losses();
    let rows = recorded.rows("http");
    assert_eq!(rows.len(), 7, "{rows:?}");
    assert_eq!(count(&rows, "complete", true), 7, "{rows:?}");
    assert_eq!(count(&rows, "method", "HEAD"), 1);
    assert_eq!(count(&rows, "status", 404), 1);
    assert_eq!(count(&rows, "path", "/page.txt"), 6);
    assert_eq!(count(&rows, "query", "n=3"), 1);
    assert_eq!(count(&rows, "client_comm", "curl"), 7);
    assert_eq!(count(&rows, "host", format!("127.0.0.1:{port}")), 7);
}

#[test]
fn requests_keeps_one_connection_for_all() {
    let Some(live) = Live::begin("Python requests", &["python3", "bash"]) else {
        return;
    };
    let Some(python) = python_with("requests") else {
        return crate::support::not_run("Python requests", "no Python here has the module requests");
    };
    let port = free_port();
    let server = live.write(
        "server.py",
        &format!(
            "import http.server\n\
             class Handler(http.server.BaseHTTPRequestHandler):\n\
             \x20   protocol_version = 'HTTP/1.1'\n\
             \x20   def do_POST(self):\n\
             \x20       body = self.rfile.read(int(self.headers['Content-Length']))\n\
             \x20       self.send_response(201)\n\
             \x20       self.send_header('Content-Length', str(len(body)))\n\
             \x20       self.end_headers()\n\
             \x20       self.wfile.write(body)\n\
             \x20   def log_message(self, *words): pass\n\
             http.server.ThreadingHTTPServer(('127.0.0.1', {port}), Handler).serve_forever()\n"
        ),
    );
    let client = live.write(
        "client.py",
        &format!(
            "import requests\nsession = requests.Session()\nsession.trust_env = False\n\
             for i in range(25):\n\
             \x20   answer = session.post('http://127.0.0.1:{port}/things', params={{'n': i}}, data='x' * (100 * i))\n\
             \x20   assert answer.status_code == 201 and len(answer.content) == 100 * i\n"
        ),
    );
    let recorded = live.record_script(
        &[],
        &format!(
            "{python} {} & \nawait_port {port}\n{python} {}\nkill %1\nwait %1 || true",
            server.display(),
            client.display()
        ),
    );
    recorded.expect_clean();
    let rows = recorded.rows("http");
    assert_eq!(count(&rows, "complete", true), 25, "{rows:?}");
    assert_eq!(count(&rows, "status", 201), 25);
    let mut ports: Vec<_> = rows.iter().map(|row| row["client_port"].as_u64()).collect();
    ports.dedup();
    assert_eq!(ports.len(), 1, "one connection");
}

#[test]
fn node_serves_and_fetches() {
    let Some(live) = Live::begin("Node", &["node", "bash"]) else {
        return;
    };
    let script = live.write(
        "both.js",
        "const http = require('http');\n\
         const server = http.createServer((request, response) => {\n\
         \x20 response.setHeader('Content-Type', 'text/plain');\n\
         \x20 for (let i = 0; i < 5; i++) response.write(`line ${i}\\n`);\n\
         \x20 response.end('done');\n\
         });\n\
         server.listen(0, '127.0.0.1', async () => {\n\
         \x20 const url = `http://127.0.0.1:${server.address().port}`;\n\
         \x20 for (let i = 0; i < 15; i++) {\n\
         \x20   const get = (path) => new Promise((done) => http.get(url + path, (r) => { r.resume(); r.on('end', done); }));\n\
         \x20   await get(`/one/${i}`);\n\
         \x20   if (typeof fetch === 'function') await (await fetch(`${url}/two/${i}`)).text(); else await get(`/two/${i}`);\n\
         \x20 }\n\
         \x20 server.close(); process.exit(0);\n\
         });\n",
    );
    let recorded = live.record(&[], &["node".as_ref(), script.as_os_str()]);
    recorded.expect_clean();
    recorded.expect_no_losses();
    let rows = recorded.rows("http");
    assert_eq!(count(&rows, "complete", true), 30, "{rows:?}");
    assert_eq!(count(&rows, "status", 200), 30);
}
