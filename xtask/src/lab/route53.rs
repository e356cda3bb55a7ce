//! A Route 53 that can be asked without an account: ministack, a Python program, on loopback. Its limits are told at its struct.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lab::install;
use crate::lab::place::{self, Place};
use crate::lab::process::{self, Account, Guardian, Server};
use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// How long the emulator may take to answer. It is Python and starts in a second or two.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A running emulator of the Route 53 API, ended when this is dropped.
///
/// It has changes that are PENDING first and INSYNC when asked a second time, answers `NoSuchChange`, applies a batch whole or not at all, and
/// knows CREATE, DELETE and UPSERT of simple, weighted and failover records. It accepts what AWS refuses: any secret key, malformed
/// addresses, weights above 255, two primaries, names outside the zone; and it ignores the disabling of health checks.
#[derive(Debug)]
pub struct Route53 {
    /// The endpoint's URL, without a slash at its end.
    pub endpoint: String,
    /// Where it listens.
    pub address: SocketAddr,
    place: Place,
    server: Mutex<Option<Server>>,
    guardian: Mutex<Guardian>,
}

impl Route53 {
    /// Starts an emulator with no zones, and installs it before when it is missing.
    ///
    /// # Errors
    /// When it cannot be installed, or does not answer; the end of its log is in the message.
    pub fn start() -> Result<Self> {
        let program = install::route53(&mut |_| {})?;
        let account = Account::find()?;
        place::reap(account)?;
        let place = Place::of_this_process(account)?;
        let address = SocketAddr::from((place.address(1), place.free_port()?));
        let home = place.make_for_servers("route53")?;
        let log = place.folder.join("route53.log");
        let guardian = Guardian::start(&place.folder, "")?;
        let mut ministack = account.command(&program);
        // Without BIND_HOST it would listen on every interface; without SERVICES it would prepare all of AWS.
        ministack.env("BIND_HOST", address.ip().to_string()).env("GATEWAY_PORT", address.port().to_string());
        ministack.env("SERVICES", "route53").env("HOME", &home).env("TMPDIR", &home).env("DOCKER_HOST", "unix:///nonexistent");
        let server = Server::start(ministack, &place.pids(), "route53", &log)?;
        let route53 = Self {
            endpoint: format!("http://{address}"),
            address,
            place,
            server: Mutex::new(Some(server)),
            guardian: Mutex::new(guardian),
        };
        let answered = look_until(READY_WITHIN, || match route53.request("GET", "/2013-04-01/hostedzone", "") {
            Ok(answer) => Some(answer.contains("ListHostedZonesResponse")),
            Err(_) if !route53.runs() => Some(false),
            Err(_) => None,
        });
        match answered {
            Some(true) => Ok(route53),
            Some(false) | None => Err(Trouble::new(format!("ministack did not answer: {}", process::end_of(&log)))),
        }
    }

    /// Makes a public zone and returns its id without the `/hostedzone/` in front.
    ///
    /// # Errors
    /// What the emulator answered.
    pub fn create_zone(&self, name: &str) -> Result<String> {
        let body = format!(
            "<?xml version=\"1.0\"?><CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Name>{name}</Name><CallerReference>lab-{name}</CallerReference></CreateHostedZoneRequest>"
        );
        let answer = self.request("POST", "/2013-04-01/hostedzone", &body)?;
        let id = answer.split("<Id>/hostedzone/").nth(1).and_then(|rest| rest.split("</Id>").next());
        id.map(str::to_owned).ok_or_else(|| Trouble::new(format!("no zone was made: {answer}")))
    }

    /// Sends one HTTP request and returns the answer's body, whatever its status. The signature is made up: this emulator does not check it.
    ///
    /// # Errors
    /// When the emulator cannot be reached.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let doing = || format!("{method} {path} of ministack");
        let mut stream = TcpStream::connect_timeout(&self.address, ANSWER_WITHIN).doing(doing)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).doing(doing)?;
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: route53.amazonaws.com\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).doing(doing)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).doing(doing)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(body.to_owned())
    }

    fn runs(&self) -> bool {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_some_and(Server::runs)
    }
}

impl Drop for Route53 {
    fn drop(&mut self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What could not be ended is found by the next lab's reaper; a panic here would hide the test's own.
        let _left_for_the_reaper = server.map(Server::kill_group);
        let _left_for_the_reaper = place::remove(&self.place.folder);
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner).dismiss();
    }
}
