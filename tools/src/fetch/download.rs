//! One file over HTTP: sources in order, resumed after a cut, with bounds on everything a server decides.
//!
//! What to do about a failure is one of three ([`Trouble`]): ask the same source again, go on to the next, or stop. Nothing here
//! knows what is in a file.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use indicatif::ProgressBar;
use ureq::http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body, Proxy};

use super::part::{Origin, Part};

/// How many addresses a server may lead through.
const REDIRECTS: usize = 5;

/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Time limits and patience.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For looking up a server, and for connecting to it.
    pub connect: Duration,
    /// Without a byte.
    pub silence: Duration,
    /// Before the second try; doubles with each failure.
    pub pause: Duration,
    /// Failures of a source, one after the other without progress, after which it is given up.
    pub tries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        let [connect, silence, pause] = [15, 60, 1].map(Duration::from_secs);
        Self { connect, silence, pause, tries: 5 }
    }
}

/// The file to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is called.
    pub file: &'a str,
    /// About how many bytes it has: a hundredth more or less is believed.
    pub size: u64,
    /// Its fingerprint.
    pub sha256: &'a str,
}

impl Wanted<'_> {
    fn most(&self) -> u64 {
        self.size + self.size / 100
    }

    fn check_length(&self, length: u64) -> anyhow::Result<()> {
        let expected = self.size - self.size / 100..=self.most();
        ensure!(expected.contains(&length), "the server has {length} bytes under this address instead of {}", self.size);
        Ok(())
    }
}

/// What a failure means.
#[derive(Debug)]
enum Trouble {
    /// It may go better in a while; the server may have said when.
    Again(anyhow::Error, Option<Duration>),
    /// This source does not have the file.
    Source(anyhow::Error),
    /// No source can help.
    Stop(anyhow::Error),
}

use Trouble::{Again, Source, Stop};

/// Fetches files over HTTP and HTTPS.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    pace: Pace,
}

/// A response that brings bytes of the file.
struct Answer {
    response: Response<Body>,
    origin: Origin,
    /// The bytes go to the end of those that are there.
    resumes: bool,
    /// Length of the whole file, when the server says it.
    total: Option<u64>,
}

impl Client {
    /// A client that goes through `proxy`, or else through what `HTTPS_PROXY` and its relatives say.
    ///
    /// # Errors
    /// When the proxy's address cannot be used.
    pub fn new(pace: Pace, proxy: Option<&str>) -> anyhow::Result<Self> {
        // The address may hold a password, so it is not repeated.
        let named = |url| Proxy::new(url).context("--proxy is not the address of a proxy, such as http://host:3128");
        Ok(Self::through(pace, proxy.map(named).transpose()?.or_else(Proxy::try_from_env)))
    }

    /// A client that goes through this proxy or through none.
    pub(super) fn through(pace: Pace, proxy: Option<Proxy>) -> Self {
        let config = Agent::config_builder()
            .proxy(proxy)
            .user_agent(concat!("pawgate-tools/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            // A connection whose server lied about a length would begin the next response with the rest.
            .max_idle_connections(0)
            .timeout_resolve(Some(pace.connect))
            .timeout_connect(Some(pace.connect))
            .timeout_send_request(Some(pace.silence))
            .timeout_recv_response(Some(pace.silence))
            .timeout_per_read(Some(pace.silence))
            .timeout_per_write(Some(pace.silence))
            .build();
        Self { agent: config.into(), pace }
    }

    /// Fetches a file from the first of `sources` that has it.
    ///
    /// # Errors
    /// What was wrong with each source. What was received is kept, and the next call goes on from there.
    pub fn fetch(&self, wanted: &Wanted<'_>, sources: &[String], part: &Part) -> anyhow::Result<()> {
        let bar = super::bytes_bar(wanted.file, wanted.size);
        let mut failures = Vec::new();
        for source in sources {
            match self.fetch_from(source, wanted, part, &bar) {
                Ok(()) => return Ok(()),
                Err(Stop(error)) => return Err(error),
                Err(Source(error) | Again(error, _)) => {
                    let failure = format!("{source}: {error:#}");
                    bar.suspend(|| log::warn!("{failure}"));
                    failures.push(failure);
                }
            }
        }
        let kept = match part.len() {
            0 => String::new(),
            n => format!("; {n} bytes are kept in {}, run again to go on", part.path().display()),
        };
        bail!("no source has {}: {}{kept}", wanted.file, failures.join("; "))
    }

    /// Asks one source until it has given the whole file or must be given up.
    fn fetch_from(&self, source: &str, wanted: &Wanted<'_>, part: &Part, bar: &ProgressBar) -> Result<(), Trouble> {
        let mut failures = 0;
        let mut best = part.len();
        loop {
            match self.attempt(source, wanted, part, bar) {
                Err(Again(error, after)) => {
                    // More than before counts as progress only by the hundredth, which bounds the tries of a line that keeps breaking.
                    if part.len() > best + wanted.size / 100 {
                        (best, failures) = (part.len(), 0);
                    }
                    failures += 1;
                    if failures >= self.pace.tries {
                        return Err(Source(error.context(format!("given up after {failures} tries"))));
                    }
                    let pause = after.unwrap_or(self.pace.pause * 2_u32.pow(failures.min(6) - 1));
                    bar.suspend(|| log::info!("{source}: {error:#}; again in {:.0} s", pause.as_secs_f64()));
                    std::thread::sleep(pause);
                }
                done_or_hopeless => return done_or_hopeless,
            }
        }
    }

    /// Receives what is missing, and checks the whole.
    fn attempt(&self, source: &str, wanted: &Wanted<'_>, part: &Part, bar: &ProgressBar) -> Result<(), Trouble> {
        // A part that is at least as long as the file can be is no beginning of it.
        let have = Some(part.len()).filter(|&n| n < wanted.most()).unwrap_or(0);
        let resumed = match self.ask(source, wanted, part, have)? {
            Some(answer) => receive(answer, wanted, part, bar)?,
            None => true,
        };
        match part.finish(wanted.sha256).map_err(Stop)? {
            Ok(()) => Ok(()),
            Err((found, wrong)) => {
                let error = anyhow!(
                    "SHA-256 is {found} instead of {}; what was received is kept as {}, look at it or delete it",
                    wanted.sha256,
                    wrong.display()
                );
                // Two halves of different files look like this too; from the beginning it may be right.
                Err(if resumed { Again(error, None) } else { Source(error) })
            }
        }
    }

    /// Asks for what is missing behind the first `have` bytes; nothing when the server says that nothing is.
    fn ask(&self, source: &str, wanted: &Wanted<'_>, part: &Part, have: u64) -> Result<Option<Answer>, Trouble> {
        let known = Some(part.origin()).filter(|origin| origin.url == source).and_then(|origin| origin.validator);
        let response = self.request(source, (have > 0).then_some((have, known.as_deref())))?;
        let origin = Origin { url: source.into(), validator: validator(&response) };
        match response.status() {
            StatusCode::OK => {
                let total = header(&response, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
                total.map_or(Ok(()), |total| wanted.check_length(total)).map_err(Source)?;
                Ok(Some(Answer { response, origin, resumes: false, total }))
            }
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                let range = header(&response, &CONTENT_RANGE).and_then(parse_range);
                let changed = known.is_some() && origin.validator.is_some() && known != origin.validator;
                match range {
                    Some((start, total)) if start == have && !changed => {
                        total.map_or(Ok(()), |total| wanted.check_length(total)).map_err(Source)?;
                        Ok(Some(Answer { response, origin, resumes: true, total }))
                    }
                    _ => self.ask(source, wanted, part, 0),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                let total = header(&response, &CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes */"));
                if total == Some(&have.to_string()) { Ok(None) } else { self.ask(source, wanted, part, 0) }
            }
            status => Err(refusal(status, &response)),
        }
    }

    /// One request, led on by the server where it says so.
    fn request(&self, source: &str, from: Option<(u64, Option<&str>)>) -> Result<Response<Body>, Trouble> {
        let mut url: Uri = source.parse().with_context(|| format!("`{source}` is not an address")).map_err(Source)?;
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some((have, validator)) = from {
                request = request.header(RANGE, format!("bytes={have}-"));
                if let Some(validator) = validator {
                    request = request.header(IF_RANGE, validator);
                }
            }
            let response = request.call().map_err(|error| classify(error, "no answer"))?;
            match (response.status().as_u16(), header(&response, &LOCATION)) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => url = follow(&url, location).map_err(Source)?,
                _ => return Ok(response),
            }
        }
        Err(Source(anyhow!("redirected more than {REDIRECTS} times")))
    }
}

/// Writes the bytes of a response to the part; whether some were there before.
fn receive(answer: Answer, wanted: &Wanted<'_>, part: &Part, bar: &ProgressBar) -> Result<bool, Trouble> {
    let Answer { mut response, origin, resumes, total } = answer;
    let mut file = if resumes { part.resume(&origin) } else { part.begin(&origin) }.map_err(|e| disk(e, part))?;
    let mut length = part.len();
    // The bar's speed is that of what comes now.
    bar.set_length(total.unwrap_or(wanted.size));
    bar.set_position(length);
    bar.reset_eta();
    let mut reader = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    let most = total.unwrap_or(wanted.most());
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) => return Err(classify(error.into(), &format!("cut after {length} bytes"))),
        };
        length += n as u64;
        if length > most {
            // Not the file, whatever it is, so it must not be gone on with.
            part.begin(&origin).map_err(Stop)?;
            return Err(Source(anyhow!("the server sends more than {most} bytes")));
        }
        file.write_all(&buffer[..n]).map_err(|e| disk(e.into(), part))?;
        bar.set_position(length);
    }
    match total {
        Some(total) if length < total => Err(Again(anyhow!("{length} bytes of {total} came"), None)),
        // Some file systems find out only now that the disk is full.
        _ => file.sync_all().map_err(|e| disk(e.into(), part)).map(|()| resumes),
    }
}

fn disk(error: anyhow::Error, part: &Part) -> Trouble {
    let path = part.path().display();
    let full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let is_full = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| full(cause.kind()));
    Stop(match is_full {
        true => error.context(format!("the disk is full; {path} is kept, make room and run again to go on")),
        false => error.context(format!("cannot write {path}")),
    })
}

/// What to do about a request that brought no response, or a body that was cut.
fn classify(error: ureq::Error, what: &str) -> Trouble {
    use ureq::Error as E;
    let hopeless = match &error {
        E::Io(io) => matches!(io.kind(), ErrorKind::ConnectionRefused | ErrorKind::InvalidData),
        E::Timeout(_) | E::ConnectionFailed | E::Protocol(_) | E::BodyStalled => false,
        _ => true,
    };
    let error = anyhow::Error::from(error).context(what.to_owned());
    if hopeless { Source(error) } else { Again(error, None) }
}

/// What to do about a status that brings no bytes.
fn refusal(status: StatusCode, response: &Response<Body>) -> Trouble {
    let error = anyhow!("the server answers {status}");
    let after = header(response, &RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    match status {
        _ if after.is_some_and(|after| after > LONGEST_WAIT) => {
            let seconds = after.unwrap_or_default().as_secs();
            Source(error.context(format!("it asks to wait for {seconds} s, run again then")))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Again(error, after),
        _ if status.is_server_error() => Again(error, after),
        _ => Source(error),
    }
}

/// The address that `location` means in a response from `base`.
///
/// # Errors
/// When it leads from HTTPS to anything else, or to what is not HTTP.
pub(super) fn follow(base: &Uri, location: &str) -> anyhow::Result<Uri> {
    let scheme = base.scheme_str().unwrap_or_default();
    let authority = base.authority().map_or("", |a| a.as_str());
    let has_scheme = location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
    let absolute = match location {
        _ if has_scheme => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let url: Uri = absolute.parse().with_context(|| format!("redirected to `{location}`, which is not an address"))?;
    match (scheme, url.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => Ok(url),
        _ => bail!("redirected from {base} to {url}; only https is followed, and http from http"),
    }
}

/// What the server can recognise the file by. Weak tags do not promise the same bytes.
fn validator(response: &Response<Body>) -> Option<String> {
    let strong = header(response, &ETAG).filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| header(response, &LAST_MODIFIED)).map(str::to_owned)
}

/// Start and whole length of `bytes START-END/LENGTH`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

fn header<'a>(response: &'a Response<Body>, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
