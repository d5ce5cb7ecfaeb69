//! A hero_proc whose answer a test makes up.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, thread};

/// A hero_proc that answers one call with the same bytes, whatever it is, and closes.
pub(crate) struct Fake {
    thread: thread::JoinHandle<String>,
    socket: PathBuf,
}

impl Fake {
    pub(crate) fn answering(socket: &Path, answer: Vec<u8>) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            stream.write_all(&answer).unwrap();
            request
        });
        Self { thread, socket: socket.to_owned() }
    }

    pub(crate) fn received(self) -> String {
        fs::remove_file(&self.socket).unwrap();
        self.thread.join().unwrap()
    }
}

/// One request, to the end of its body.
pub(crate) fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some(end) = text.find("\r\n\r\n") {
            let length =
                text.to_lowercase().split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse();
            if request.len() >= end + 4 + length.unwrap_or(0_usize) {
                return text.into_owned();
            }
        }
        assert_ne!(read, 0, "{text}");
    }
}

/// A whole answer with status 200.
pub(crate) fn http(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
