//! A front before the Route 53 emulator that does what the emulator cannot: throttle, lose a request or its answer, let another
//! writer come between, answer as another account. Its errors are written as Amazon documents them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the front does to a change, once, before it lets changes through again.
#[derive(Clone, Debug)]
pub(crate) enum Mischief {
    /// Answers with this error and does not pass the change on.
    Answer { status: u16, code: &'static str },
    /// Passes nothing on and hangs up.
    LoseRequest,
    /// Passes the change on and hangs up without the answer.
    LoseAnswer,
    /// Sends this other change first.
    Overtake { body: String },
}

#[derive(Debug, Default)]
struct State {
    mischief: Vec<Mischief>,
    requests: Vec<String>,
    account: Option<String>,
}

/// A proxy of one request a connection.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Front {
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&front.state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(client, upstream, &state));
            }
        });
        front
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Done to the next changes, one each.
    pub(crate) fn next(&self, mischief: impl IntoIterator<Item = Mischief>) {
        self.state.lock().unwrap().mischief.extend(mischief);
    }

    pub(crate) fn account(&self, account: &str) {
        self.state.lock().unwrap().account = Some(account.to_owned());
    }

    /// Changes that came in so far, passed on or not.
    pub(crate) fn changes(&self) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|line| is_change(line)).count()
    }

    /// Everything but questions.
    pub(crate) fn writes(&self) -> Vec<String> {
        let asks = |line: &str| line.starts_with("GET ") || line.starts_with("POST / ");
        self.state.lock().unwrap().requests.iter().filter(|line| !asks(line)).cloned().collect()
    }
}

fn is_change(line: &str) -> bool {
    line.starts_with("POST ") && line.contains("/rrset")
}

fn serve(mut client: TcpStream, upstream: SocketAddr, state: &Mutex<State>) {
    let Some((head, body)) = request(&mut client) else { return };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let (mischief, account) = {
        let mut state = state.lock().unwrap();
        state.requests.push(line.clone());
        let mischief = if is_change(&line) && !state.mischief.is_empty() { Some(state.mischief.remove(0)) } else { None };
        (mischief, state.account.clone())
    };
    if line.starts_with("POST / ") {
        let account = account.unwrap_or_else(|| "123456789012".into());
        let xml = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:iam::{account}:user/lab</Arn><UserId>AIDA</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        return answer(&mut client, 200, &xml);
    }
    match mischief {
        None => relay(&mut client, upstream, &head, &body),
        Some(Mischief::LoseRequest) => {}
        Some(Mischief::LoseAnswer) => {
            pass_on(upstream, &head, &body);
        }
        Some(Mischief::Overtake { body: other }) => {
            pass_on(upstream, &head, other.as_bytes());
            relay(&mut client, upstream, &head, &body);
        }
        Some(Mischief::Answer { status, code }) => {
            let xml = format!(
                "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            );
            answer(&mut client, status, &xml);
        }
    }
}

fn relay(client: &mut TcpStream, upstream: SocketAddr, head: &str, body: &[u8]) {
    let answer = pass_on(upstream, head, body);
    let _ = client.write_all(&answer);
}

fn answer(client: &mut TcpStream, status: u16, xml: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", xml.len());
    let _ = client.write_all(head.as_bytes());
    let _ = client.write_all(xml.as_bytes());
}

/// Sends the request as HTTP/1.0, so that the answer ends with the connection.
fn pass_on(upstream: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default().replace("HTTP/1.1", "HTTP/1.0");
    let kept = lines.filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.is_empty() && !line.starts_with("content-length") && !line.starts_with("connection")
    });
    let mut request = first;
    for line in kept {
        request.push_str("\r\n");
        request.push_str(line);
    }
    request.push_str(&format!("\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    let Ok(mut server) = TcpStream::connect(upstream) else { return Vec::new() };
    let mut answer = Vec::new();
    let _ = server.write_all(request.as_bytes());
    let _ = server.write_all(body);
    let _ = server.read_to_end(&mut answer);
    answer
}

fn request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let length = length.unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
