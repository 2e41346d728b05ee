//! Against a server on this machine that does what each test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Parser;
use tempfile::TempDir;
use ureq::Proxy;

use super::*;
use crate::files::sha256;

/// What a request asked for.
#[derive(Debug, Clone, Default)]
struct Request {
    target: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server sends, word for word, and whether it then goes silent instead of closing.
#[derive(Debug, Clone)]
struct Reply {
    head: String,
    body: Vec<u8>,
    hangs: bool,
}

impl Reply {
    fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self { head: format!("HTTP/1.1 {status}\r\n{lines}\r\n"), body: body.to_vec(), hangs: false }
    }

    fn whole(body: &[u8], headers: &[(&str, &str)]) -> Self {
        let length = body.len().to_string();
        Self::new("200 OK", &[headers, &[("Content-Length", &length)]].concat(), body)
    }

    fn partial(body: &[u8], start: usize, headers: &[(&str, &str)]) -> Self {
        let (rest, range) = (&body[start..], format!("bytes {start}-{}/{}", body.len() - 1, body.len()));
        let length = rest.len().to_string();
        let own = [("Content-Length", length.as_str()), ("Content-Range", range.as_str())];
        Self::new("206 Partial Content", &[headers, &own].concat(), rest)
    }

    /// As a good server answers: with the rest, if the file is still the one that the client knows.
    fn honour(request: &Request, body: &[u8], tag: &str) -> Self {
        let headers = [("ETag", tag)];
        let same = request.header("if-range").is_none_or(|known| known == tag);
        match request.start() {
            Some(start) if same && start >= body.len() => {
                let range = format!("bytes */{}", body.len());
                Self::new("416 Range Not Satisfiable", &[("Content-Range", &range), ("Content-Length", "0")], &[])
            }
            Some(start) if same => Self::partial(body, start, &headers),
            _ => Self::whole(body, &headers),
        }
    }

    fn empty(status: &str, headers: &[(&str, &str)]) -> Self {
        Self::new(status, &[headers, &[("Content-Length", "0")]].concat(), &[])
    }

    fn cut(mut self, after: usize) -> Self {
        self.body.truncate(after);
        self
    }

    fn hanging(mut self) -> Self {
        self.hangs = true;
        self
    }
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request with what `reply` says to it and its number, from 0.
    fn start(reply: impl Fn(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default(), stop: Arc::default() };
        let (seen, stop) = (server.seen.clone(), server.stop.clone());
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                silent.extend(serve(stream.unwrap(), &seen, &reply));
            }
        });
        server
    }

    fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.address)
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    fn starts(&self) -> Vec<Option<usize>> {
        self.seen().iter().map(Request::start).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// The connection, if it is to stay open.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, reply: impl Fn(&Request, usize) -> Reply) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = read_request(&mut reader)?;
        let number = seen.lock().unwrap().len();
        seen.lock().unwrap().push(request.clone());
        if request.target.starts_with("CONNECT") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            continue;
        }
        let reply = reply(&request, number);
        // A client that has enough closes, which is no error.
        stream.write_all(reply.head.as_bytes()).and_then(|()| stream.write_all(&reply.body)).ok()?;
        return reply.hangs.then_some(stream);
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let target = lines.next()?;
    let headers = lines.filter_map(|line| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))).collect();
    Some(Request { target, headers })
}

const NAME: &str = "file.bin";

fn content(salt: usize) -> Vec<u8> {
    (0..100_000_usize).map(|i| (i * 7919 / 13 + i / 256 + salt) as u8).collect()
}

fn pace() -> Pace {
    let [connect, silence, pause] = [2000, 250, 2].map(Duration::from_millis);
    Pace { connect, silence, pause, tries: 3 }
}

/// A folder, and what is to come there.
struct Case {
    folder: TempDir,
    content: Vec<u8>,
    pace: Pace,
}

impl Case {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), content: content(0), pace: pace() }
    }

    fn fetch(&self, sources: &[String]) -> Result<(), String> {
        let sha256 = sha256(&self.content);
        let wanted = Wanted { file: NAME, size: self.content.len() as u64, sha256: &sha256 };
        let client = Client::through(self.pace, None);
        client.fetch(&wanted, sources, &Part::new(self.folder.path(), NAME)).map_err(|error| format!("{error:#}"))
    }

    /// Fetches from one server.
    fn get(&self, server: &Server) -> Result<(), String> {
        self.fetch(&[server.url(NAME)])
    }

    fn read(&self, suffix: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(format!("{NAME}{suffix}"))).ok()
    }

    fn write(&self, suffix: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(format!("{NAME}{suffix}")), bytes).unwrap();
    }

    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// The file is there, and nothing but it.
    #[track_caller]
    fn assert_complete(&self) {
        assert_eq!(self.names(), [NAME]);
        assert!(self.read("").unwrap() == self.content);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_file_comes_whole_and_leaves_nothing_beside_it() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::whole(&body, &[]));
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None]);
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_file_may_come_without_a_length() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::new("200 OK", &[("Connection", "close")], &body));
    case.get(&server).unwrap();
    case.assert_complete();
}

#[test]
fn a_cut_connection_is_resumed_if_the_file_is_the_same() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |request, number| {
        let reply = Reply::honour(request, &body, "\"one\"");
        if number < 2 { reply.cut(30_000) } else { reply }
    });
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None, Some(30_000), Some(60_000)]);
    assert!(server.seen()[1..].iter().all(|request| request.header("if-range") == Some("\"one\"")));
}

#[test]
fn a_later_run_resumes_too() {
    let case = Case { pace: Pace { tries: 1, ..pace() }, ..Case::new() };
    let body = case.content.clone();
    let server = Server::start(move |request, number| {
        let reply = Reply::honour(request, &body, "\"one\"");
        if number == 0 { reply.cut(99_000) } else { reply }
    });
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("99000 bytes are kept in") && error.contains("file.bin.part"), "{error}");
    assert_eq!(case.names(), ["file.bin.part", "file.bin.part.json"]);
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None, Some(99_000)]);
    assert_eq!(server.seen()[1].header("if-range"), Some("\"one\""));
}

#[test]
fn a_server_that_ignores_ranges_begins_anew() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, number| {
        let reply = Reply::whole(&body, &[]);
        if number == 0 { reply.cut(30_000) } else { reply }
    });
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None, Some(30_000)]);
}

#[test]
fn a_file_that_changed_begins_anew() {
    let case = Case::new();
    let (old, new) = (content(1), case.content.clone());
    let server = Server::start(move |request, number| match number {
        0 => Reply::honour(request, &old, "\"old\"").cut(30_000),
        _ => Reply::honour(request, &new, "\"new\""),
    });
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None, Some(30_000)]);
}

#[test]
fn a_server_that_ignores_if_range_is_found_out_by_its_tag_and_its_start() {
    for lie in ["tag", "start"] {
        let case = Case::new();
        let (old, new) = (content(1), case.content.clone());
        let server = Server::start(move |request, number| match (number, request.start(), lie) {
            (0, ..) => Reply::whole(&old, &[("ETag", "\"old\"")]).cut(30_000),
            (_, Some(start), "tag") => Reply::partial(&new, start, &[("ETag", "\"new\"")]),
            (_, Some(start), _) => Reply::partial(&new, start - 1, &[("ETag", "\"old\"")]),
            _ => Reply::whole(&new, &[("ETag", "\"new\"")]),
        });
        case.get(&server).unwrap();
        case.assert_complete();
        assert_eq!(server.starts(), [None, Some(30_000), None], "{lie}");
    }
}

#[test]
fn weak_tags_are_not_sent_back_but_times_are() {
    let case = Case::new();
    let body = case.content.clone();
    let time = "Wed, 21 Oct 2015 07:28:00 GMT";
    let server = Server::start(move |request, number| match request.start() {
        Some(start) => Reply::partial(&body, start, &[]),
        None if number == 0 => Reply::whole(&body, &[("ETag", "W/\"weak\""), ("Last-Modified", time)]).cut(50_000),
        None => panic!("nothing to begin anew"),
    });
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.seen()[1].header("if-range"), Some(time));
}

#[test]
fn halves_of_different_files_are_kept_aside_and_begun_anew() {
    let case = Case::new();
    case.write(".part", &content(1)[..40_000]);
    let body = case.content.clone();
    let server = Server::start(move |request, _| Reply::honour(request, &body, "\"one\""));
    case.get(&server).unwrap();
    assert_eq!(server.starts(), [Some(40_000), None]);
    assert_eq!(case.names(), [NAME, "file.bin.wrong"]);
    assert!(case.read("").unwrap() == case.content);
    assert!(case.read(".wrong").unwrap()[..40_000] == content(1)[..40_000]);
}

#[test]
fn wrong_bytes_never_get_the_name_and_are_kept() {
    let case = Case::new();
    let server = Server::start(|_, _| Reply::whole(&content(1), &[]));
    let error = case.get(&server).unwrap_err();
    for part in [sha256(&case.content), sha256(&content(1)), "file.bin.wrong".into()] {
        assert!(error.contains(&part), "{error}");
    }
    assert_eq!(case.names(), ["file.bin.wrong"]);
    assert!(case.read(".wrong").unwrap() == content(1));
    assert_eq!(server.starts(), [None]);
}

#[test]
fn lengths_that_cannot_be_the_files_are_refused_at_once() {
    for length in [1_000, 98_000, 102_000, 1_000_000_000] {
        let case = Case::new();
        case.write(".part", &content(0)[..50_000]);
        let body = case.content.clone();
        let server = Server::start(move |_, _| Reply::new("200 OK", &[("Content-Length", &length.to_string())], &body));
        let error = case.get(&server).unwrap_err();
        assert!(error.contains(&format!("{length} bytes under this address instead of 100000")), "{error}");
        assert_eq!(case.read(".part").unwrap().len(), 50_000, "what was there is kept");
        assert_eq!(server.starts().len(), 1);
    }
}

#[test]
fn lengths_that_are_a_little_wrong_do_no_harm() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::new("200 OK", &[("Content-Length", "100500")], &body));
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("given up after 3 tries") && error.contains("cut after 100000 bytes"), "{error}");
    assert_eq!(case.names(), ["file.bin.part", "file.bin.part.json"]);

    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::new("200 OK", &[("Content-Length", "99500")], &body));
    assert!(case.get(&server).unwrap_err().contains(&sha256(&case.content[..99_500])));
    assert_eq!(case.read(".wrong").unwrap().len(), 99_500, "no byte more than announced");
}

#[test]
fn a_server_that_does_not_stop_is_stopped() {
    let case = Case::new();
    let server = Server::start(|_, _| Reply::new("200 OK", &[("Connection", "close")], &vec![7; 5_000_000]));
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("sends more than 101000 bytes"), "{error}");
    assert_eq!(case.read(".part").unwrap().len(), 0, "it is not gone on with");
}

#[test]
fn a_part_that_is_whole_already_is_only_checked() {
    let case = Case::new();
    case.write(".part", &case.content);
    let body = case.content.clone();
    let server = Server::start(move |request, _| Reply::honour(request, &body, "\"one\""));
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [Some(100_000)]);
}

#[test]
fn a_part_that_is_too_long_begins_anew() {
    for (length, starts) in [(100_500, vec![Some(100_500), None]), (300_000, vec![None])] {
        let case = Case::new();
        case.write(".part", &vec![1; length]);
        let body = case.content.clone();
        let server = Server::start(move |request, _| Reply::honour(request, &body, "\"one\""));
        case.get(&server).unwrap();
        case.assert_complete();
        assert_eq!(server.starts(), starts);
    }
}

#[test]
fn redirects_are_followed_with_the_range() {
    for location in ["/there/file.bin", "there/file.bin", "HOST/there/file.bin"] {
        let case = Case::new();
        case.write(".part", &case.content[..10]);
        let body = case.content.clone();
        let server = Server::start(move |request, _| match request.target.contains("/there/file.bin") {
            true => Reply::honour(request, &body, "\"one\""),
            false => {
                let host = format!("http://{}", request.header("host").unwrap());
                Reply::empty("302 Found", &[("Location", &location.replace("HOST", &host))])
            }
        });
        case.get(&server).unwrap();
        case.assert_complete();
        assert_eq!(server.starts(), [Some(10), Some(10)]);
    }
}

#[test]
fn redirects_in_circles_end() {
    let case = Case::new();
    let server = Server::start(|_, _| Reply::empty("301 Moved Permanently", &[("Location", "/again")]));
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("redirected more than 5 times"), "{error}");
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn redirects_never_lead_out_of_https() {
    let follow = |base: &str, location: &str| {
        let followed = download::follow(&base.parse().unwrap(), location);
        followed.map(|url| url.to_string()).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(follow("https://a/b/c", "https://d/e").unwrap(), "https://d/e");
    assert_eq!(follow("https://a/b/c", "//d/e").unwrap(), "https://d/e");
    assert_eq!(follow("https://a:1/b/c?x", "e?y").unwrap(), "https://a:1/b/e?y");
    assert_eq!(follow("http://a/b", "https://d/e").unwrap(), "https://d/e");
    assert_eq!(follow("http://a/b", "http://d/e").unwrap(), "http://d/e");
    for location in ["http://a/b/c", "HTTP://a/b/c", "ftp://a/b", "file:///etc/passwd"] {
        assert!(follow("https://a/b/c", location).is_err(), "{location}");
    }
    assert!(follow("http://a/b", "ftp://a/b").unwrap_err().contains("only https is followed"));
}

#[test]
fn what_is_not_there_is_not_asked_for_again() {
    let case = Case::new();
    let server = Server::start(|_, _| Reply::empty("404 Not Found", &[]));
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("answers 404 Not Found") && error.contains(&server.url(NAME)), "{error}");
    assert_eq!(server.seen().len(), 1);
    assert!(case.names().is_empty());
}

#[test]
fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, number| match number {
        0 | 1 => Reply::empty("500 Internal Server Error", &[]),
        _ => Reply::whole(&body, &[]),
    });
    case.get(&server).unwrap();
    case.assert_complete();

    let case = Case::new();
    let server = Server::start(|_, _| Reply::empty("503 Service Unavailable", &[]));
    assert!(case.get(&server).unwrap_err().contains("given up after 3 tries"));
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_line_that_breaks_all_the_time_is_used_as_long_as_it_helps() {
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |request, _| Reply::honour(request, &body, "\"one\"").cut(9_000));
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.seen().len(), 12);

    // The same without ranges never gets further.
    let case = Case::new();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::whole(&body, &[]).cut(9_000));
    case.get(&server).unwrap_err();
    assert!(server.seen().len() <= 4);
}

#[test]
fn the_server_says_how_long_to_wait() {
    let case = Case { pace: Pace { pause: Duration::from_secs(600), ..pace() }, ..Case::new() };
    let body = case.content.clone();
    let server = Server::start(move |_, number| match number {
        0 => Reply::empty("429 Too Many Requests", &[("Retry-After", "0")]),
        _ => Reply::whole(&body, &[]),
    });
    case.get(&server).unwrap();
    case.assert_complete();

    let case = Case::new();
    let server = Server::start(|_, _| Reply::empty("429 Too Many Requests", &[("Retry-After", "86400")]));
    let error = case.get(&server).unwrap_err();
    assert!(error.contains("asks to wait for 86400 s"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn silence_is_not_waited_for() {
    let case = Case::new();
    let body = case.content.clone();
    let begun = Instant::now();
    let server = Server::start(move |request, number| match number {
        0 => Reply::new("200 OK", &[], &[]).hanging(),
        1 => Reply::honour(request, &body, "\"one\"").cut(20_000).hanging(),
        _ => Reply::honour(request, &body, "\"one\""),
    });
    case.get(&server).unwrap();
    case.assert_complete();
    assert_eq!(server.starts(), [None, None, Some(20_000)]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let case = Case { pace: Pace { tries: 1, ..pace() }, ..Case::new() };
    let server = Server::start(|_, _| Reply { head: String::new(), body: vec![], hangs: true });
    assert!(case.get(&server).unwrap_err().contains("timeout"));
}

#[test]
fn mirrors_come_first_and_the_origin_goes_on_where_they_stop() {
    let case = Case::new();
    let (half, body) = (case.content.clone(), case.content.clone());
    let gone = Server::start(|_, _| Reply::empty("404 Not Found", &[]));
    let breaks = Server::start(move |_, number| match number {
        0 => Reply::whole(&half, &[("ETag", "\"mirror\"")]).cut(60_000),
        _ => Reply::empty("500 Internal Server Error", &[]),
    });
    let origin = Server::start(move |request, _| Reply::honour(request, &body, "\"origin\""));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    case.fetch(&[format!("http://{closed}/{NAME}"), gone.url(NAME), breaks.url(NAME), origin.url(NAME)]).unwrap();
    case.assert_complete();
    assert_eq!(gone.seen().len(), 1);
    assert_eq!(origin.starts(), [Some(60_000)]);
    assert_eq!(origin.seen()[0].header("if-range"), None, "the mirror's tag says nothing to the origin");
}

#[test]
fn a_mirror_with_another_file_does_not_spoil_it() {
    let case = Case::new();
    let body = case.content.clone();
    let mirror = Server::start(|_, _| Reply::whole(&content(1), &[]));
    let origin = Server::start(move |request, _| Reply::honour(request, &body, "\"one\""));
    case.fetch(&[mirror.url(NAME), origin.url(NAME)]).unwrap();
    assert_eq!(case.names(), [NAME, "file.bin.wrong"]);
    assert_eq!(origin.starts(), [None]);
}

#[test]
fn a_proxy_is_gone_through() {
    let case = Case::new();
    let body = case.content.clone();
    let proxy = Server::start(move |_, _| Reply::whole(&body, &[]));
    let client = Client::through(pace(), Some(Proxy::new(&proxy.url("")).unwrap()));
    let sha256 = sha256(&case.content);
    let wanted = Wanted { file: NAME, size: 100_000, sha256: &sha256 };
    client.fetch(&wanted, &["http://host.invalid/file.bin".into()], &Part::new(case.folder.path(), NAME)).unwrap();
    case.assert_complete();
    assert!(proxy.seen()[0].target.contains("host.invalid"), "{:?}", proxy.seen());
    assert!(Client::new(pace(), Some("gopher://user:secret@x")).is_err_and(|e| !format!("{e:#}").contains("secret")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_the_part_kept() {
    let case = Case::new();
    std::os::unix::fs::symlink("/dev/full", case.folder.path().join("file.bin.part")).unwrap();
    let body = case.content.clone();
    let server = Server::start(move |_, _| Reply::whole(&body, &[]));
    let error = case.fetch(&[server.url(NAME), server.url(NAME)]).unwrap_err();
    assert!(error.contains("the disk is full") && error.contains("file.bin.part is kept"), "{error}");
    assert_eq!(server.seen().len(), 1, "nothing else is tried");
    assert!(case.names().contains(&"file.bin.part".into()) && !case.names().contains(&NAME.into()));
}

/// An entry of an archive: its name as it stands, its kind, and its content or the target of a link.
type Member<'a> = (&'a str, EntryType, &'a str);

use tar::EntryType;

const GOOD: &[Member<'static>] = &[
    ("./images/", EntryType::Directory, ""),
    ("images/pug_1.jpg", EntryType::Regular, "pug"),
    ("images/more/a.txt", EntryType::Regular, "a"),
    ("images/._pug_1.jpg", EntryType::Regular, "macOS"),
    ("._images", EntryType::Regular, "macOS"),
];

fn tar_gz(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for &(name, kind, text) in members {
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let body = if is_link { "" } else { text };
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(body.len() as u64);
        if is_link {
            header.set_link_name_literal(text).unwrap();
        }
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn unpack(bytes: &[u8], limits: Limits) -> (TempDir, Result<(), String>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.tar.gz"), bytes).unwrap();
    let result = archive::unpack(&root.path().join("a.tar.gz"), &root.path().join("pets/images"), "abc", limits);
    (root, result.map_err(|error| format!("{error:#}")))
}

#[test]
fn an_archive_becomes_a_folder() {
    let (root, result) = unpack(&tar_gz(GOOD), Limits::default());
    result.unwrap();
    let images = root.path().join("pets/images");
    assert_eq!(names(&root.path().join("pets")), ["images"]);
    assert_eq!(names(&images), [".unpacked-from", "more", "pug_1.jpg"]);
    assert_eq!(std::fs::read_to_string(images.join("pug_1.jpg")).unwrap(), "pug");
    assert!(archive::is_unpacked(&images, "abc").unwrap());
    assert!(archive::is_unpacked(&images, "abd").unwrap_err().to_string().contains("move it away"));
    assert!(!archive::is_unpacked(&root.path().join("pets/other"), "abc").unwrap());
}

#[test]
fn archives_that_reach_out_leave_nothing() {
    let cases: &[(Member<'_>, &str)] = &[
        (("../evil", EntryType::Regular, "x"), "leads out"),
        (("images/../../evil", EntryType::Regular, "x"), "leads out"),
        (("/tmp/evil", EntryType::Regular, "x"), "leads out"),
        (("evil", EntryType::Regular, "x"), "does not lie in `images`"),
        (("images2/evil", EntryType::Regular, "x"), "does not lie in `images`"),
        (("images", EntryType::Regular, "x"), "a file stands where"),
        (("images/out", EntryType::Symlink, "/tmp"), "is a link"),
        (("images/out", EntryType::Symlink, "../.."), "is a link"),
        (("images/out", EntryType::Link, "/etc/passwd"), "is a link"),
        (("images/pipe", EntryType::Fifo, ""), "neither a file nor a folder"),
    ];
    for (member, message) in cases {
        let members = [GOOD, &[*member, ("images/out/evil", EntryType::Regular, "x")]].concat();
        let (root, result) = unpack(&tar_gz(&members), Limits::default());
        let error = result.unwrap_err();
        assert!(error.contains(message) && error.contains("a.tar.gz"), "{member:?}: {error}");
        assert!(names(&root.path().join("pets")).is_empty(), "{member:?}");
        assert_eq!(names(root.path()), ["a.tar.gz", "pets"], "{member:?}");
    }
}

#[test]
fn damaged_and_oversized_archives_leave_nothing() {
    let good = tar_gz(GOOD);
    let mut bad_sum = good.clone();
    let at = bad_sum.len() - 8;
    bad_sum[at] ^= 1;
    let small = Limits { bytes: 2_000, ..Limits::default() };
    let few = Limits { entries: 2, ..Limits::default() };
    let cases = [
        (&good[..good.len() / 2], Limits::default()),
        (&good[..good.len() - 4], Limits::default()),
        (&bad_sum[..], Limits::default()),
        (b"<html>no archive</html>", Limits::default()),
        (&good[..], small),
        (&good[..], few),
    ];
    for (bytes, limits) in cases {
        let (root, result) = unpack(bytes, limits);
        assert!(result.unwrap_err().contains("cannot unpack"));
        assert!(names(&root.path().join("pets")).is_empty());
    }
    assert!(unpack(&good, small).1.unwrap_err().contains("more bytes than allowed"));
}

#[test]
fn what_a_killed_run_left_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("pets/.unpacking-images/images/old")).unwrap();
    std::fs::write(root.path().join("a.tar.gz"), tar_gz(GOOD)).unwrap();
    archive::unpack(&root.path().join("a.tar.gz"), &root.path().join("pets/images"), "abc", Limits::default()).unwrap();
    assert_eq!(names(&root.path().join("pets/images")), [".unpacked-from", "more", "pug_1.jpg"]);
}

/// A checkpoint and an archive, as the catalogue would have them.
fn items() -> ([Item; 2], [Vec<u8>; 2]) {
    let bodies = [content(0), tar_gz(GOOD)];
    let leak = |bytes: &[u8]| -> &'static str { Box::leak(sha256(bytes).into_boxed_str()) };
    let item = |file, body: &[u8], folder| Item {
        name: file,
        file,
        origins: &[],
        size: body.len() as u64,
        sha256: leak(body),
        licence: "",
        folder,
    };
    let items = [item("net.pth", &bodies[0], None), item("images.tar.gz", &bodies[1], Some("images"))];
    (items, bodies)
}

fn mirror_of(bodies: [Vec<u8>; 2]) -> (Server, Supply) {
    let server = Server::start(move |request, _| {
        let body = if request.target.contains("net.pth") { &bodies[0] } else { &bodies[1] };
        Reply::honour(request, body, "\"one\"")
    });
    let supply = Supply::Network { client: Client::through(pace(), None), mirrors: vec![server.url("")] };
    (server, supply)
}

#[test]
fn a_second_run_fetches_nothing() {
    let out = tempfile::tempdir().unwrap();
    let (items, bodies) = items();
    let (server, supply) = mirror_of(bodies);
    fetch_all(&items, &supply, out.path()).unwrap();
    assert_eq!(names(out.path()), [".fetch.lock", "images.tar.gz", "net.pth", "oxford-pets"]);
    assert_eq!(server.seen().len(), 2);
    assert_eq!(fetch(&items[0], &supply, out.path()).unwrap(), Outcome::Present);
    assert_eq!(fetch(&items[1], &supply, out.path()).unwrap(), Outcome::Present);
    // The unpacked folder is enough.
    std::fs::remove_file(out.path().join("images.tar.gz")).unwrap();
    fetch_all(&items, &supply, out.path()).unwrap();
    assert_eq!(server.seen().len(), 2);
    // And the archive is enough for the folder.
    std::fs::remove_dir_all(out.path().join("oxford-pets")).unwrap();
    fetch_all(&items, &supply, out.path()).unwrap();
    fetch_all(&items, &supply, out.path()).unwrap();
    std::fs::remove_dir_all(out.path().join("oxford-pets")).unwrap();
    fetch_all(&items, &supply, out.path()).unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn one_failure_does_not_keep_the_others_away() {
    let out = tempfile::tempdir().unwrap();
    let (items, bodies) = items();
    let (server, supply) = mirror_of(bodies);
    std::fs::write(out.path().join("net.pth"), "mine").unwrap();
    let error = format!("{:#}", fetch_all(&items, &supply, out.path()).unwrap_err());
    assert!(error.contains("1 of 2 failed: net.pth") && error.contains(&sha256(b"mine")), "{error}");
    assert!(error.contains(items[0].sha256) && error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read_to_string(out.path().join("net.pth")).unwrap(), "mine");
    assert!(out.path().join("oxford-pets/images/pug_1.jpg").is_file());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_folder_from_elsewhere_is_left_alone() {
    let out = tempfile::tempdir().unwrap();
    let (items, bodies) = items();
    let (server, supply) = mirror_of(bodies);
    std::fs::create_dir_all(out.path().join("oxford-pets/images")).unwrap();
    assert!(fetch_all(&items[1..], &supply, out.path()).unwrap_err().to_string().contains("was not unpacked from"));
    assert!(server.seen().is_empty());
}

#[test]
fn two_runs_do_not_mix() {
    let out = tempfile::tempdir().unwrap();
    let (items, bodies) = items();
    let (_server, supply) = mirror_of(bodies);
    let held = lock(out.path()).unwrap();
    assert!(fetch_all(&items, &supply, out.path()).unwrap_err().to_string().contains("another run"));
    drop(held);
    fetch_all(&items, &supply, out.path()).unwrap();
}

#[test]
fn a_folder_is_as_good_as_a_server() {
    let (from, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (items, bodies) = items();
    let supply = Supply::Folder(from.path().into());
    std::fs::write(from.path().join("net.pth"), &bodies[0]).unwrap();
    let error = format!("{:#}", fetch_all(&items, &supply, out.path()).unwrap_err());
    assert!(error.contains("1 of 2 failed: images.tar.gz") && error.contains("is not there"), "{error}");
    assert!(std::fs::read(out.path().join("net.pth")).unwrap() == bodies[0]);

    std::fs::write(from.path().join("images.tar.gz"), "wrong").unwrap();
    let error = format!("{:#}", fetch_all(&items, &supply, out.path()).unwrap_err());
    assert!(error.contains(&sha256(b"wrong")) && error.contains(items[1].sha256), "{error}");
    assert_eq!(std::fs::read_to_string(from.path().join("images.tar.gz")).unwrap(), "wrong");
    assert_eq!(names(out.path()), [".fetch.lock", "net.pth"]);

    std::fs::write(from.path().join("images.tar.gz"), &bodies[1]).unwrap();
    fetch_all(&items, &supply, out.path()).unwrap();
    assert!(out.path().join("oxford-pets/images/pug_1.jpg").is_file());
}

#[test]
fn the_catalogue_agrees_with_itself() {
    let select = |names: &[&str]| catalogue::select(&names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>());
    let count = |names: &[&str]| select(names).unwrap().len();
    assert_eq!([count(&["all"]), count(&["weights"]), count(&["pets", "pets-images"])], [6, 4, 2]);
    assert_eq!(count(&["resnet50-v1", "resnet50-0676ba61.pth"]), 1);
    assert!(select(&["resnet"]).unwrap_err().to_string().contains("no `resnet`: name some of resnet50-v1"));
    for item in catalogue::ITEMS {
        assert!(item.sha256.len() == 64 && item.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        if let Some((_, digits)) = item.file.trim_end_matches(".pth").rsplit_once('-') {
            assert!(item.sha256.starts_with(digits), "{}", item.name);
        }
        assert!(item.origins.iter().all(|url| url.starts_with("https://") && url.ends_with(item.file)));
        assert!(listing().contains(item.file) && listing().contains(item.licence));
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn the_command_line_says_where_files_come_from() {
    let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.args).map_err(|e| e.to_string());
    assert!(parse("fetch pets").unwrap_err().contains("--out"));
    assert!(parse("fetch --out a --from b --mirror https://c").unwrap_err().contains("cannot be used with"));
    assert!(parse("fetch --out a --tries 0").is_err() && parse("fetch --out a --timeout 0").is_err());
    run(&parse("fetch --list").unwrap()).unwrap();
    let args = parse("fetch --out a --mirror https://c/x/ --mirror http://d").unwrap();
    assert_eq!(args.what, ["all"]);
    let flags = mirrors(&args.mirror, Some("https://e")).unwrap();
    let sources = sources(&catalogue::ITEMS[0], &flags);
    assert_eq!(sources[..2], ["https://c/x/resnet50-0676ba61.pth", "http://d/resnet50-0676ba61.pth"]);
    assert_eq!(sources[2], catalogue::ITEMS[0].origins[0]);
    assert_eq!(mirrors(&[], Some("https://e  http://f")).unwrap(), ["https://e", "http://f"]);
    assert!(mirrors(&[], None).unwrap().is_empty());
    assert!(mirrors(&[], Some("ftp://e")).unwrap_err().to_string().contains("`ftp://e`"));
    let missing = supply(&parse("fetch --out a --from /does/not/exist").unwrap()).unwrap_err();
    assert!(missing.to_string().contains("/does/not/exist"));
}
