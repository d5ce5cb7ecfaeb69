//! `page`: the link, the token, what is refused before it is read, and the calls that are sent on. What a browser makes of
//! it, `tests/page` shows.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use hero_proc_cleanup::client::Client;
use hero_proc_cleanup::page::{FILES, HEADERS, file, with_slash};
use hero_proc_cleanup::server;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docs::between;
use crate::support::fake::{Fake, http};
use crate::support::process::{PATIENCE, Running, binary, entries, lines, run, text};
use crate::support::sample::Sample;
use crate::support::server::Answer;

/// The binary as `page`, and the link that it has printed.
struct Page {
    process: Running,
    address: SocketAddr,
    secret: String,
    /// Whatever else comes on stdout.
    stdout: Mutex<Receiver<String>>,
}

impl Page {
    /// A page whose calls go to `gateway`, with further `args`.
    fn new(gateway: &Path, args: &[&str]) -> Self {
        Self::start(binary().arg("page").arg("--socket").arg(gateway).args(args))
    }

    fn start(command: &mut Command) -> Self {
        let mut process = Running::start(command.stdout(Stdio::piped()));
        let stdout = lines(process.child.stdout.take().unwrap());
        let link = stdout.recv_timeout(PATIENCE).unwrap();
        let (address, secret) = link.strip_prefix("http://").unwrap().split_once("/#").unwrap();
        Self { process, address: address.parse().unwrap(), secret: secret.to_owned(), stdout: Mutex::new(stdout) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `request`, byte for byte, and reads until the server closes the connection.
    fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        let _ = stream.write_all(request.as_ref());
        Answer::last_of(&mut stream)
    }

    /// A request as the page itself sends it, with further `headers`, each with its line break.
    fn request(&self, verb: &str, path: &str, headers: &str, body: &str) -> String {
        let (host, length) = (self.address, body.len());
        format!(
            "{verb} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(self.request("GET", path, headers, ""))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        self.send(self.request("POST", path, &format!("content-type: application/json\r\n{headers}"), body))
    }

    fn open(&self, secret: &str) -> Answer {
        self.post("/session", "", &json!({ "secret": secret }).to_string())
    }

    /// The header of a tab that has opened the link.
    fn token(&self) -> String {
        let answer = self.open(&self.secret);
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("authorization: Bearer {}\r\n", answer.json()["token"].as_str().unwrap())
    }

    /// Asks it to end, and returns the exit code and the rest of stderr.
    fn end(self, signal: Signal) -> (Option<i32>, String) {
        self.process.signal(signal);
        let (status, log) = self.process.end_with_log();
        assert_eq!(self.stdout.into_inner().unwrap().recv(), Err(std::sync::mpsc::RecvError), "one line is printed");
        (status.code(), log)
    }
}

/// A gateway that is not there.
const NOWHERE: &str = "/there/is/no/gateway.sock";

fn nowhere(args: &[&str]) -> Page {
    Page::new(Path::new(NOWHERE), args)
}

fn call(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, kind: &str, case: &str) {
    assert_eq!(answer.status, status, "{case:?}: {answer:?}");
    answer.assert_discreet();
    let body = answer.json();
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &Value::Null), "{case:?}");
    assert_eq!(body["error"]["data"]["kind"], kind, "{case:?}: {body}");
    assert_headers(answer, case);
}

/// There is nothing to tell, and nothing is wrong.
#[track_caller]
fn assert_nothing(answer: &Answer, case: &str) {
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{case:?}: {answer:?}");
    assert_headers(answer, case);
}

/// Whatever the answer is, it has the headers that keep it to itself.
#[track_caller]
fn assert_headers(answer: &Answer, case: &str) {
    for (name, value) in HEADERS {
        assert!(answer.head.contains(&format!("\r\n{name}: {}", value.to_lowercase())), "{case:?}: {name}: {answer:?}");
    }
    // A browser repeats a call whose connection ends without an answer, if it has used the connection before.
    assert!(answer.head.contains("\r\nconnection: close"), "{case:?}: {answer:?}");
    assert!(!answer.head.contains("set-cookie") && !answer.head.contains("access-control"), "{case:?}: {answer:?}");
}

#[test]
fn the_files_are_served_as_they_are_and_nothing_else_is() {
    let page = nowhere(&[]);
    for file in FILES {
        for path in [format!("/{}", file.name), format!("/{}?x=/y", file.name)] {
            let answer = page.get(&path, "");
            assert_eq!((answer.status, &*answer.body), (200, file.bytes), "{path}");
            assert!(answer.head.contains(&format!("\r\ncontent-type: {}\r\n", file.content_type)), "{answer:?}");
            assert_headers(&answer, &path);
        }
        let answer = page.post(&format!("/{}", file.name), "", "{}");
        assert_eq!(answer.status, 405, "{}", file.name);
        assert_headers(&answer, file.name);
    }
    let index = FILES.iter().find(|file| file.name == "index.html").unwrap();
    assert_eq!(page.get("/", "").body, index.bytes);
    let head = page.send(page.request("HEAD", "/", "", ""));
    assert_eq!((head.status, head.body.len()), (200, 0));
    for path in [
        "//",
        "//index.html",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/index%2ehtml",
        "/INDEX.HTML",
        "/page/index.html",
    ]
    .iter()
    .chain(&["/etc/passwd", "/health", "/openrpc.json", "/.well-known/heroservice.json", "/index.html/", "/%00"])
    {
        let answer = page.get(path, "");
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
        assert_headers(&answer, path);
    }
}

/// Each file in the directory is served, and is served as it is.
#[test]
fn the_files_are_those_of_the_directory() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
    let there: BTreeSet<PathBuf> = entries(&directory).into_iter().collect();
    let listed: BTreeSet<PathBuf> = FILES.iter().map(|file| directory.join(file.name)).collect();
    assert_eq!(listed, there);
    for listed in FILES {
        assert_eq!(fs::read(directory.join(listed.name)).unwrap(), listed.bytes, "{}", listed.name);
        assert_eq!(file(listed.name), Some(listed));
    }
    assert_eq!(file("").map(|file| file.name), Some("index.html"));
    assert_eq!(file("../Cargo.toml"), None);
}

#[test]
fn a_redirect_stays_on_its_host() {
    for (header, location) in [
        (None, "/cleanup/"),
        (Some("/apps"), "/apps/cleanup/"),
        (Some("/apps/one/"), "/apps/one/cleanup/"),
        (Some("/"), "/cleanup/"),
        (Some(""), "/cleanup/"),
        (Some("apps"), "/cleanup/"),
        (Some("//elsewhere.example"), "/cleanup/"),
        (Some("/\\elsewhere.example"), "/cleanup/"),
        (Some("/a//b"), "/cleanup/"),
        (Some("https://elsewhere.example"), "/cleanup/"),
        (Some("/a\r\nset-cookie: a=b"), "/cleanup/"),
    ] {
        assert_eq!(with_slash("/cleanup", header), location, "{header:?}");
    }
}

/// Nothing in the files leads to another host, and each address is relative.
#[test]
fn the_files_name_nothing_outside() {
    for file in FILES {
        let content = text(file.bytes);
        let content = content.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http://", "https://", "//cdn", "src=\"/", "href=\"/", "url(", "@import"] {
            assert!(!content.contains(outside), "{}: {outside}", file.name);
        }
    }
}

#[test]
fn a_link_opens_the_page_once() {
    let page = nowhere(&[]);
    let other = nowhere(&[]);
    assert!(page.secret.len() == 64 && page.secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", page.secret);
    assert_ne!(page.secret, other.secret);

    // What is not the link leaves it as it is.
    for wrong in ["", "x", &other.secret, &page.secret[1..], &page.secret.to_uppercase(), &format!("{} ", page.secret)]
    {
        let answer = page.open(wrong);
        assert_refused(&answer, 403, "not_admin", wrong);
        assert_eq!(answer.json()["error"]["data"]["reason"], "wrong_link");
    }
    for body in ["", "{}", "[]", "null", r#"{"secret":1}"#, r#"{"secret":"x","token":"y"}"#, r#"{"secret":"#] {
        assert_refused(&page.post("/session", "", body), 400, "invalid_request", body);
    }
    assert_eq!(page.get("/session", "").status, 405);

    let answer = page.open(&page.secret);
    assert_headers(&answer, "the link");
    assert_eq!(answer.status, 200);
    let opened = answer.json();
    let token = opened["token"].as_str().unwrap();
    assert_eq!(opened, json!({ "token": token }));
    assert!(token.len() == 64 && token != page.secret);
    for _ in 0..2 {
        let answer = page.open(&page.secret);
        assert_refused(&answer, 403, "not_admin", "a second time");
        assert_eq!(answer.json()["error"]["data"]["reason"], "link_used");
        page.process.says("the link was used a second time");
    }
    assert_eq!(other.open(&other.secret).status, 200);

    let answer = page.get("/status", &format!("authorization: bearer {token}\r\n"));
    assert_eq!(answer.status, 204, "the first tab goes on: {answer:?}");
    let (code, log) = page.end(Signal::INT);
    assert_eq!(code, Some(0));
    assert!(!log.contains(token) && !log.contains(&other.secret), "{log}");
}

/// Two tabs that open the link at the same moment are one tab that has the page, and one that has not.
#[test]
fn a_link_that_is_opened_twice_at_once_opens_one_page() {
    let page = nowhere(&[]);
    let opened = std::thread::scope(|scope| {
        let tabs: Vec<_> = (0..8).map(|_| scope.spawn(|| page.open(&page.secret).status)).collect();
        tabs.into_iter().map(|tab| tab.join().unwrap()).filter(|status| *status == 200).count()
    });
    assert_eq!(opened, 1);
}

#[test]
fn a_call_needs_the_token() {
    let page = nowhere(&[]);
    let usage = call("jobs.usage", &json!({}));
    let wrong = |headers: &str| {
        for answer in [page.post("/rpc", headers, &usage), page.get("/status", headers)] {
            assert_refused(&answer, 401, "not_admin", headers);
            assert!(answer.head.contains("\r\nwww-authenticate: bearer"), "{answer:?}");
            assert_eq!(answer.json()["error"]["data"]["reason"], "no_session");
        }
    };
    wrong("");
    wrong(&format!("authorization: Bearer {}\r\n", page.secret));
    let header = page.token();
    let token = between(&header, "Bearer ", "\r\n");
    for headers in [
        String::new(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: {token}\r\n"),
        format!("authorization: Basic {token}\r\n"),
        format!("authorization: Bearer  {token}\r\n"),
        format!("authorization: Bearer {}\r\n", token.to_uppercase()),
        format!("authorization: Bearer {}\r\n", &token[1..]),
        format!("authorization: Bearer {}\r\n", page.secret),
        format!("{header}{header}"),
        format!("{header}authorization: Bearer x\r\n"),
        format!("cookie: token={token}\r\n"),
        format!("x-authorization: Bearer {token}\r\n"),
    ] {
        wrong(&headers);
    }
    let error = page.post("/rpc", &header, &usage).json()["error"].clone();
    assert_eq!(error["data"]["kind"], "upstream_unreachable", "{error}");
}

/// A name that is rebound to this machine, another origin, another site, another media type: each is refused before the
/// token is looked at, and before a body is read.
#[test]
fn what_another_site_sends_is_refused() {
    let page = nowhere(&[]);
    let token = page.token();
    let port = page.address.port();
    let send = |verb: &str, path: &str, headers: &str| {
        // The body does not come.
        page.send(format!("{verb} {path} HTTP/1.1\r\nconnection: close\r\n{headers}content-length: 9\r\n\r\n"))
    };
    let all = [("GET", "/"), ("GET", "/index.html"), ("GET", "/nothing"), ("GET", "/status"), ("POST", "/rpc")];
    let all = all.iter().chain(&[("POST", "/session"), ("OPTIONS", "/rpc"), ("DELETE", "/")]);
    let json = "content-type: application/json\r\n";

    for host in [
        String::new(),
        "host:\r\n".to_owned(),
        format!("host: rebound.example:{port}\r\n"),
        format!("host: localhost.rebound.example:{port}\r\n"),
        format!("host: 127.0.0.1.rebound.example:{port}\r\n"),
        format!("host: rebound.example@127.0.0.1:{port}\r\n"),
        format!("host: localhost.:{port}\r\n"),
        format!("host: 127.0.0.2:{port}\r\n"),
        format!("host: 127.1:{port}\r\n"),
        format!("host: 2130706433:{port}\r\n"),
        format!("host: 0.0.0.0:{port}\r\n"),
        format!("host: ::1:{port}\r\n"),
        format!("host: [::1:{port}\r\n"),
        "host: localhost:\r\n".to_owned(),
        "host: localhost:x\r\n".to_owned(),
        "host: localhost:+80\r\n".to_owned(),
        "host: localhost:65536\r\n".to_owned(),
        "host: localhost:80:80\r\n".to_owned(),
        "host: localhost/\r\n".to_owned(),
        "host: localhost, rebound.example\r\n".to_owned(),
        "host: localhost\r\nhost: rebound.example\r\n".to_owned(),
        "host: rebound.example\r\nhost: localhost\r\n".to_owned(),
        "x-forwarded-host: localhost\r\nhost: rebound.example\r\n".to_owned(),
    ] {
        for (verb, path) in all.clone() {
            assert_refused(&send(verb, path, &format!("{host}{token}{json}")), 403, "invalid_request", &host);
        }
    }
    let absolute = send("GET", "http://rebound.example/", "host: localhost\r\n");
    assert_refused(&absolute, 403, "invalid_request", "an absolute address");

    let host = format!("host: 127.0.0.1:{port}\r\n");
    for origin in [
        "null".to_owned(),
        "http://rebound.example".to_owned(),
        format!("https://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{}", port.wrapping_add(1)),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1:{port}\r\norigin: http://rebound.example"),
    ] {
        for (verb, path) in all.clone() {
            let headers = format!("{host}{token}{json}origin: {origin}\r\n");
            assert_refused(&send(verb, path, &headers), 403, "invalid_request", &headers);
        }
    }
    for site in [
        "cross-site",
        "same-site",
        "Same-Origin",
        "",
        "none, cross-site",
        "none\r\nsec-fetch-site: cross-site",
        "cross-site\r\nsec-fetch-mode: no-cors\r\nsec-fetch-dest: document",
        "cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe",
        "cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\nsec-fetch-dest: iframe",
    ] {
        for (verb, path) in all.clone() {
            let headers = format!("{host}{token}{json}sec-fetch-site: {site}\r\n");
            assert_refused(&send(verb, path, &headers), 403, "invalid_request", &headers);
        }
    }
    // Only the page itself can be led to from elsewhere.
    let led = format!("{host}sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n");
    assert_eq!(page.get("/", &led.replace(&host, "")).status, 200);
    for (verb, path) in [("GET", "/index.html"), ("GET", "/status"), ("POST", "/rpc"), ("POST", "/session")] {
        assert_refused(&send(verb, path, &format!("{led}{token}{json}")), 403, "invalid_request", path);
    }
    for media_type in ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"] {
        for path in ["/rpc", "/session", "/"] {
            let headers = format!("{host}{token}{media_type}");
            assert_refused(&send("POST", path, &headers), 415, "invalid_request", media_type);
        }
    }
    // A preflight is never answered with consent.
    assert_headers(&send("OPTIONS", "/rpc", &format!("{host}origin: http://127.0.0.1:{port}\r\n")), "a preflight");
}

#[test]
fn this_machine_is_named_in_three_ways_on_any_port() {
    let page = nowhere(&[]);
    let token = page.token();
    let body = call("jobs.usage", &json!({}));
    for host in
        ["127.0.0.1", "127.0.0.1:1", "localhost", "localhost:65535", "LOCALHOST:8080", "[::1]", "[::1]:8080"].iter()
    {
        for origin in [String::new(), format!("origin: http://{host}\r\nsec-fetch-site: same-origin\r\n")] {
            let headers = format!("{token}{origin}content-type: application/json; charset=utf-8\r\n");
            let request = page.request("POST", "/rpc", &headers, &body);
            let request = request.replace(&format!("host: {}", page.address), &format!("host: {host}"));
            let answer = page.send(&request);
            assert_eq!(answer.status, 200, "{request}: {answer:?}");
        }
    }
}

/// What the gateway answers comes back as it came, for its three methods and `rpc.discover`; nothing else is sent.
#[test]
fn the_gateways_methods_are_sent_on() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gateway.sock");
    let page = Page::new(&socket, &[]);
    let token = page.token();
    for method in ["jobs.usage", "jobs.cleanup", "jobs.reclaim", "rpc.discover"] {
        for outcome in [
            r#""result":{"of": [1.0, "any","version" ]}"#,
            r#""error":{"code":-32002,"message":"only admins may clean up jobs","data":{"kind":"not_admin"}}"#,
            r#""error":{"code":7,"message":"of another server"}"#,
        ] {
            let fake = Fake::answering(&socket, http(&format!(r#"{{"jsonrpc":"2.0","id":1,{outcome}}}"#)));
            let body = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"{method}","params":{{"a":[1.50]}}}}"#);
            let answer = page.post("/rpc", &token, &body);
            assert_eq!(text(&answer.body), format!(r#"{{"jsonrpc":"2.0","id":"x",{outcome}}}"#), "{method}");
            assert_headers(&answer, method);
            let received = fake.received();
            let sent = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"a":[1.50]}}}}"#);
            assert!(received.ends_with(&sent) && !received.contains("authorization"), "{received}");
        }
    }
    for method in ["job.cleanup_by_tag", "job.usage_by_tag", "store.reclaim", "rpc.list", "jobs.", "", "JOBS.USAGE"] {
        // Nobody listens there, so that a call that was sent would be answered otherwise.
        let error = page.post("/rpc", &token, &call(method, &json!({}))).json()["error"].clone();
        assert_eq!(error["data"]["kind"], "method_not_found", "{method}: {error}");
    }
    let error = page.post("/rpc", &token, &call("jobs.cleanup", &json!({}))).json()["error"].clone();
    assert_eq!((&error["code"], &error["data"]["cause"]), (&json!(-32023), &json!("not_found")), "{error}");
}

/// From the page to the store and back: a batch, a preview, its plan, and what is left.
#[test]
fn the_story_from_the_link_to_the_store() {
    let sample = Sample::new();
    let store = sample.serve();
    let gateway = sample.gateway(&store);
    let page = Page::new(&gateway.socket, &[]);
    let token = page.token();
    let before = sample.dump();
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "jobs.usage" },
        { "jsonrpc": "2.0", "method": "jobs.cleanup" },
        { "jsonrpc": "2.0", "id": 2, "method": "jobs.cleanup", "params": { "dry_run": true, "kind": "build" } },
        { "jsonrpc": "2.0", "id": 3, "method": "job.cleanup_by_tag", "params": { "tags": ["codescaler"] } },
    ]);
    let answers = page.post("/rpc", &token, &batch.to_string()).json();
    assert_eq!(answers.as_array().unwrap().len(), 3, "{answers}");
    assert_eq!(answers[0]["result"]["jobs"], 4);
    assert_eq!(answers[2]["error"]["data"]["kind"], "method_not_found");
    assert_eq!(sample.dump(), before, "a notification is not carried out");
    let plan = &answers[1]["result"]["plan"];
    let delete = call("jobs.cleanup", &json!({ "kind": "build", "expect_plan": plan }));
    assert_eq!(page.post("/rpc", &token, &delete).json()["result"]["jobs_deleted"], 3);
    let again = page.post("/rpc", &token, &delete).json();
    assert_eq!(again["error"]["data"]["kind"], "plan_changed", "{again}");
    assert_eq!(sample.jobs(), [3, 5]);
    assert!(gateway.until("jobs.cleanup").contains("jobs.cleanup"), "the gateway's log has the call");
}

#[test]
fn large_and_slow_requests_are_refused() {
    let page = nowhere(&["--client-timeout", "300ms"]);
    let token = page.token();
    let large = format!("{}{}", call("jobs.usage", &json!({})), " ".repeat(1 << 20));
    for path in ["/rpc", "/session"] {
        assert_refused(&page.post(path, &token, &large), 413, "invalid_request", path);
        let chunked = format!("{token}content-type: application/json\r\ntransfer-encoding: chunked\r\n");
        let head = page.request("POST", path, &chunked, "").replace("content-length: 0\r\n", "");
        assert_refused(&page.send(format!("{head}200000\r\n{large}")), 413, "invalid_request", path);
        let slow = page.request("POST", path, &format!("{token}content-type: application/json\r\n"), "");
        let slow = slow.replace("content-length: 0", "content-length: 9");
        assert_refused(&page.send(&slow), 408, "invalid_request", path);
    }
    // A head that does not come to its end.
    for beginning in ["", "GET / HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut stream = page.connect();
        stream.write_all(beginning.as_bytes()).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "the connection stays open"),
        }
    }
    let head = page.request("GET", "/", &format!("x: {}\r\n", "x".repeat(1 << 20)), "");
    assert_eq!(page.send(&head).status, 431);
    assert_eq!(page.get("/", "").status, 200);
}

#[test]
fn retentions_status_is_shown_as_it_is() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state.json");
    let page = nowhere(&["--state", state.to_str().unwrap()]);
    let token = page.token();
    assert_nothing(&page.get("/status", &token), "not yet");
    for status in [r#"{ "passes": [1.50,null] }"#, "[]", "\n{}\n"] {
        fs::write(&state, status).unwrap();
        let answer = page.get("/status", &token);
        assert_eq!((answer.status, text(&answer.body)), (200, status));
        assert!(answer.head.contains("\r\ncontent-type: application/json\r\n"), "{answer:?}");
        assert_headers(&answer, status);
    }
    fs::write(&state, format!("\"{}\"", "x".repeat((1 << 20) - 2))).unwrap();
    assert_eq!(page.get("/status", &token).body.len(), 1 << 20);
    for unfit in [format!("\"{}\"", "x".repeat(1 << 20)), String::new(), "<p>".to_owned(), "{} {}".to_owned()] {
        fs::write(&state, &unfit).unwrap();
        assert_refused(&page.get("/status", &token), 500, "internal", "not of retention");
    }
    fs::write(&state, b"\"\xff\"").unwrap();
    assert_refused(&page.get("/status", &token), 500, "internal", "no text");
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    assert_refused(&page.get("/status", &token), 500, "internal", "a directory");
    // Nobody writes into it, and nobody waits for that.
    fs::remove_dir(&state).unwrap();
    assert!(Command::new("mkfifo").arg(&state).status().unwrap().success());
    assert_refused(&page.get("/status", &token), 500, "internal", "a pipe");

    let without = nowhere(&[]);
    let token = without.token();
    assert_nothing(&without.get("/status", &token), "none");
}

#[test]
fn only_loopback_is_served() {
    for address in [
        "0.0.0.0:0",
        "[::]:0",
        "127.0.0.2:0",
        "[::ffff:127.0.0.1]:0",
        "192.0.2.1:0",
        "localhost:0",
        "127.0.0.1",
        ":8080",
        "8080",
        "",
        "127.0.0.1:65536",
    ] {
        let output = run(&["page", "--listen", address, "--socket", NOWHERE]);
        assert_eq!(output.status.code(), Some(2), "{address}: {output:?}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains("127.0.0.1"), "{output:?}");
    }
    let page = nowhere(&["--listen", "127.0.0.1:0"]);
    let taken = page.address.to_string();
    let output = run(&["page", "--listen", &taken, "--socket", NOWHERE]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let page = nowhere(&["--listen", "[::1]:0"]);
        assert!(page.address.is_ipv6());
        assert_eq!(page.get("/", "").status, 200);
    }
}

#[test]
fn nobody_uses_a_page_for_an_hour_before_it_ends() {
    let page = server::Page::new(Client::new(NOWHERE)).unwrap();
    assert_eq!(page.unused, Duration::from_secs(3600));
}

/// In no time at all the page would end at once, or answer nobody.
#[test]
fn a_page_without_any_time_is_an_error_at_the_start() {
    for flag in ["--client-timeout", "--unused"] {
        for none in ["0", "0ms", "0d"] {
            let output = run(&["page", flag, none, "--socket", NOWHERE]);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flag} {none}: {output:?}");
            let told = text(&output.stderr);
            assert!(told.contains(flag) && told.contains("must be above 0"), "{told}");
        }
        // The longest time is as long as any.
        let page = nowhere(&[flag, &i64::MAX.to_string()]);
        page.token();
        assert_eq!(page.end(Signal::TERM), (Some(0), String::new()), "{flag}");
    }
}

#[test]
fn signals_end_it_and_so_does_nobody() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let page = nowhere(&[]);
        let token = page.token();
        let mut tab = page.connect();
        tab.write_all(page.request("GET", "/status", &token, "").replace("close", "keep-alive").as_bytes()).unwrap();
        assert_headers(&Answer::last_of(&mut tab), "a tab that would keep its connection");
        // Nor does one that says nothing.
        let _silent = page.connect();
        let (code, log) = page.end(signal);
        assert_eq!((code, &*log), (Some(0), ""), "{signal:?}");
    }
    let page = nowhere(&["--unused", "100ms"]);
    page.process.says("the page ends: nobody has used it for 100ms");
    assert_eq!(page.process.end().0, Some(0));
}

/// A browser gets the link in a file that only its user can read, and in no argument; the file goes once the link is used.
#[test]
fn a_browser_gets_the_link_in_a_private_file() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let browser = path("browser");
    fs::write(
        &browser,
        "#!/bin/sh\nset -e\necho \"$@\" > args\nstat -c '%a' \"$2\" \"${2%/*}\" > modes\ncp \"$2\" open.html\nmv open.html opened\n",
    )
    .unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o700)).unwrap();
    let temporary = path("tmp");
    fs::create_dir(&temporary).unwrap();
    let start = |with: &str| {
        let mut command = binary();
        command.args(["page", "--open", "--socket", NOWHERE]).env("BROWSER", with).env("TMPDIR", &temporary);
        Page::start(command.current_dir(&directory))
    };
    let page = start(&format!("{} --new-tab %s:unused", browser.display()));
    while !path("opened").exists() {
        std::thread::yield_now();
    }
    let args = fs::read_to_string(path("args")).unwrap();
    let html = fs::read_to_string(path("opened")).unwrap();
    let link = format!("http://{}/#{}", page.address, page.secret);
    assert!(html.contains(&format!("content=\"0;url={link}\"")), "{html}");
    assert!(args.starts_with("--new-tab /") && !args.contains(&page.secret), "{args}");
    assert_eq!(fs::read_to_string(path("modes")).unwrap(), "600\n700\n");
    assert_eq!(entries(&temporary).len(), 1);
    page.token();
    while !entries(&temporary).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(page.end(Signal::TERM).0, Some(0));

    // One that is never opened, and one that can't be.
    for browser in [browser.to_str().unwrap(), "false", "/there/is/no/browser"] {
        let page = start(browser);
        if browser != path("browser").to_str().unwrap() {
            page.process.says("the browser could not be started: open the link yourself");
        }
        assert_eq!(page.get("/", "").status, 200);
        assert_eq!(page.end(Signal::TERM).0, Some(0));
        assert!(entries(&temporary).is_empty());
    }
}
