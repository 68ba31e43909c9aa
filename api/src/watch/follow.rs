//! The thin shell around [`Course`]: sends what it asks for, and passes on what comes back.

use std::{
    marker::PhantomData,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::{
    Api, Client, Error, Resource,
    api::{ListParams, WatchParams},
    core::Request,
};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::{
    Change, WatchConfig,
    course::{Ask, Course, Failure, Part},
    decode::{self, Line, Page},
    pages::Pages,
};

/// How long an answer may take to begin, and a page to come: API servers end requests of their own after a minute.
const ANSWER: Duration = Duration::from_secs(60);
/// For how long a watch is asked for at least, in seconds; at most for a quarter longer, so that watches which began
/// together do not begin anew together.
const SHORTEST: u32 = 240;
/// How much longer than asked for a watch is waited for: one that does not end by itself is dead.
const GRACE: Duration = Duration::from_secs(5);
/// The longest line that is read. API servers take objects of at most 3 MiB; escapes make text longer.
const LONGEST_LINE: u64 = 16 << 20;

type Lines = Pin<Box<dyn AsyncBufRead + Send>>;

/// A watch that stands.
struct Open {
    lines: Lines,
    /// What has come of the next line.
    line: Vec<u8>,
    /// When it should have ended by itself.
    until: Instant,
}

/// Follows all objects of one kind.
pub(super) struct Follower<K> {
    client: Client,
    config: WatchConfig,
    course: Course,
    open: Option<Open>,
    page: Page,
    pages: Pages,
    /// What is to be told before and after the objects of the page.
    part: Part,
    path: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned + Resource> Follower<K> {
    pub(super) fn new(api: Api<K>, config: WatchConfig) -> Self {
        Self {
            path: api.resource_url().to_owned(),
            client: api.into_client(),
            pages: Pages::new(config.page_size),
            config,
            course: Course::new(),
            open: None,
            page: Page::default(),
            part: Part { begins: false, ends: false },
            kind: PhantomData,
        }
    }

    /// What is to be told next.
    pub(super) async fn next(&mut self) -> Change<K> {
        loop {
            if let Some(change) = self.listed() {
                return change;
            }
            let has_line = match &mut self.open {
                Some(open) => Some(open.line().await),
                None => None,
            };
            let change = match has_line {
                None => self.ask().await,
                Some(true) => self.heard(),
                Some(false) => self.ended(),
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    /// What is left to tell of the page.
    fn listed(&mut self) -> Option<Change<K>> {
        if std::mem::take(&mut self.part.begins) {
            return Some(Change::Listing);
        }
        if let Some(object) = self.page.objects.pop_front() {
            return Some(decode::listed(&object));
        }
        // The room for a page is given back before the next one comes, or while there is only a watch.
        self.page = Page::default();
        std::mem::take(&mut self.part.ends).then_some(Change::Listed)
    }

    /// What the line that has come says.
    fn heard(&mut self) -> Option<Change<K>> {
        let open = self.open.as_mut()?;
        let line = decode::line(&open.line);
        open.line.clear();
        match line {
            Line::Bookmark(version) => {
                self.course.reached(&version);
                None
            }
            Line::Change(change, version) => {
                self.course.reached(&version);
                Some(change)
            }
            Line::Failed(failure) => self.failed(failure),
        }
    }

    fn ended(&mut self) -> Option<Change<K>> {
        self.open = None;
        let is_told = self.course.ended(Instant::now());
        is_told.then(|| Change::Interrupted("the API ends each watch as it begins".to_owned()))
    }

    fn failed(&mut self, failure: Failure) -> Option<Change<K>> {
        self.open = None;
        self.course.failed(failure).map(Change::Interrupted)
    }

    /// Asks for what is due, after the wait that is due.
    async fn ask(&mut self) -> Option<Change<K>> {
        let wait = self.course.wait(rand::random());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        match self.course.ask().clone() {
            Ask::Page(after) => match self.list(after).await {
                Ok(page) => {
                    self.part = self.course.page(page.next.clone(), page.version.clone());
                    self.page = page;
                    None
                }
                Err(failure) => self.failed(failure),
            },
            Ask::Watch(version) => match self.watch(&version).await {
                Ok(open) => {
                    self.open = Some(open);
                    self.course.opened(Instant::now()).then_some(Change::Resumed)
                }
                Err(failure) => self.failed(failure),
            },
        }
    }

    async fn list(&mut self, after: Option<String>) -> Result<Page, Failure> {
        let params = ListParams {
            label_selector: self.config.labels.clone(),
            limit: Some(self.pages.limit()),
            continue_token: after,
            ..ListParams::default()
        };
        let request = Request::new(&self.path).list(&params).map_err(|error| away(&error))?;
        let client = self.client.clone();
        let body = within(async move {
            let mut stream = pin!(client.request_stream(request).await.map_err(|e| failure(&e))?);
            let mut body = Vec::new();
            stream.read_to_end(&mut body).await.map_err(|error| away(&error))?;
            Ok(body)
        });
        let body = Bytes::from(body.await?);
        let page = decode::page(&body).map_err(Failure::Away)?;
        self.pages.came(page.objects.len(), body.len());
        Ok(page)
    }

    async fn watch(&mut self, version: &str) -> Result<Open, Failure> {
        let seconds = SHORTEST + rand::random_range(0..=SHORTEST / 4);
        let params = WatchParams {
            label_selector: self.config.labels.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&self.path).watch(&params, version);
        let request = request.map_err(|error| away(&error))?;
        let client = self.client.clone();
        let lines = within(async move {
            client.request_stream(request).await.map_err(|error| failure(&error))
        });
        let until = Instant::now() + Duration::from_secs(seconds.into()) + GRACE;
        Ok(Open { lines: Box::pin(lines.await?), line: Vec::new(), until })
    }
}

impl Open {
    /// Waits for a line. There is none once the watch has ended, was cut, or is dead.
    async fn line(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut lines = (&mut self.lines).take(LONGEST_LINE);
        let read = timeout(left, lines.read_until(b'\n', &mut self.line)).await;
        matches!(read, Ok(Ok(_))) && self.line.ends_with(b"\n")
    }
}

/// Waits for an answer, but not for ever: an API that takes what is asked and says nothing is away.
async fn within<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| {
        Err(Failure::Away(format!("the API has not answered within {} s", ANSWER.as_secs())))
    })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Api(status) => decode::failure(status),
        error => away(error),
    }
}

/// The error with its causes: the outermost sentence alone does not say what happened.
fn away(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Failure::Away(text)
}
