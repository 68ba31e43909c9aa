//! The clients of a soak: connections of all ages, and what is wrong with what comes back.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use socket2::SockRef;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UdpSocket},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    churn::Serving,
    set::{CHURNED, FLOOD, STEADY, Set},
};

/// A gateway resets a call that it cannot bring anywhere within ten seconds, and one whose link has died within as many:
/// what takes longer is stuck.
const STUCK: Duration = Duration::from_secs(25);

pub(super) struct Load {
    set: Arc<Set>,
    serving: Arc<Serving>,
    answered: AtomicU64,
    reset: AtomicU64,
    datagrams: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    pub(super) fn new(set: Arc<Set>, serving: Arc<Serving>) -> Self {
        let [answered, reset, datagrams] = [0; 3].map(AtomicU64::new);
        Self { set, serving, answered, reset, datagrams, wrong: Mutex::default() }
    }

    pub(super) fn told(&self) -> String {
        let [answered, reset, datagrams] =
            [&self.answered, &self.reset, &self.datagrams].map(|count| count.load(Relaxed));
        format!("{answered} answers, {reset} resets, {datagrams} datagrams")
    }

    /// Fails where anything was wrong, or next to nothing was right.
    #[track_caller]
    pub(super) fn judge(&self) {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{} wrong, such as {}", wrong.len(), wrong[0]);
        let (answered, reset) = (self.answered.load(Relaxed), self.reset.load(Relaxed));
        assert!(answered > 100 && answered > 3 * reset, "{}", self.told());
        assert!(self.datagrams.load(Relaxed) > 0, "no datagram has come back");
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// What came of a question.
    fn take(&self, service: &str, question: &str, begun: Instant, answer: Told) -> bool {
        match answer {
            Ok(Ok(answer)) => {
                self.answered.fetch_add(1, Relaxed);
                let said = answer.split_once('/').and_then(|(cluster, rest)| {
                    (rest == format!("{service} {question}")).then_some(cluster)
                });
                match said {
                    None => self.wrong(format!("{service} was asked {question:?}: {answer:?}")),
                    Some(cluster) if !self.serving.may_answer(cluster, service, begun) => {
                        self.wrong(format!("{cluster} does not serve {service} to berlin"));
                    }
                    Some(_) => {}
                }
                true
            }
            Ok(Err(_)) => {
                self.reset.fetch_add(1, Relaxed);
                false
            }
            Err(_) => {
                self.wrong(format!("{service} was asked {question:?}: stuck"));
                false
            }
        }
    }

    /// One question for each connection.
    pub(super) async fn short(self: Arc<Self>, seed: u64, stop: CancellationToken) {
        let mut draw = StdRng::seed_from_u64(seed);
        while !stop.is_cancelled() {
            let service = CHURNED[draw.random_range(0..CHURNED.len())];
            let (begun, question) = (Instant::now(), format!("{}\n", draw.random::<u32>()));
            let answer = timeout(STUCK, self.set.ask(service, &question)).await;
            if !self.take(service, &question, begun, answer) {
                sleep(Duration::from_millis(20)).await;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Connections that live for some seconds, whatever becomes of those who serve. What has begun may go on after
    /// nothing new may begin.
    pub(super) async fn middling(self: Arc<Self>, seed: u64, stop: CancellationToken) {
        let mut draw = StdRng::seed_from_u64(100 + seed);
        while !stop.is_cancelled() {
            let service = CHURNED[draw.random_range(0..CHURNED.len())];
            let (begun, questions) = (Instant::now(), draw.random_range(5..80));
            let mut conversation = None;
            for number in 0..questions {
                let question = format!("{seed}-{number}\n");
                let answer = timeout(STUCK, say(&self.set, service, &mut conversation, &question));
                if !self.take(service, &question, begun, answer.await) {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// A connection to a cluster that nobody touches, over a link that nobody touches.
    pub(super) async fn old(self: Arc<Self>, stop: CancellationToken) {
        let mut conversation = None;
        for number in 0_u64.. {
            if stop.is_cancelled() {
                return;
            }
            let question = format!("{number}\n");
            let answer = timeout(STUCK, say(&self.set, STEADY, &mut conversation, &question)).await;
            if !self.take(STEADY, &question, Instant::now(), answer) {
                return self
                    .wrong(format!("a connection to {STEADY} was cut after {number} lines"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Clients that go in the midst of things, and such as ask for much and read nothing.
    pub(super) async fn rude(self: Arc<Self>, stop: CancellationToken) {
        for turn in 0_usize.. {
            if stop.is_cancelled() {
                return;
            }
            let service = if turn % 5 == 0 { STEADY } else { CHURNED[turn % CHURNED.len()] };
            if let Ok(mut stream) = TcpStream::connect(self.set.entry(service)).await {
                let question = if turn % 2 == 0 { FLOOD } else { "half of a quest" };
                let _ = stream.write_all(question.as_bytes()).await;
                sleep(Duration::from_millis(if turn % 2 == 0 { 300 } else { 10 })).await;
                if turn % 3 == 0 {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Flows that last for a second, and are answered with what they have said.
    pub(super) async fn datagrams(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let at = self.set.entry(STEADY);
            let socket = UdpSocket::bind((at.ip(), 0)).await.unwrap();
            socket.connect(at).await.unwrap();
            for number in 0_u32..20 {
                let _ = socket.send(&number.to_be_bytes()).await;
                let mut back = [0; 64];
                // One that is lost is no fault; another one's is.
                if let Ok(Ok(count)) = timeout(Duration::from_secs(1), socket.recv(&mut back)).await
                {
                    let said = back[..count].try_into().map(u32::from_be_bytes);
                    if said.is_ok_and(|said| said <= number) {
                        self.datagrams.fetch_add(1, Relaxed);
                    } else {
                        self.wrong(format!("datagram {number} came back as {:?}", &back[..count]));
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

type Told = Result<io::Result<String>, tokio::time::error::Elapsed>;

/// A question on a connection that stays.
async fn say(
    set: &Set,
    service: &str,
    conversation: &mut Option<BufReader<TcpStream>>,
    question: &str,
) -> io::Result<String> {
    if conversation.is_none() {
        *conversation = Some(BufReader::new(TcpStream::connect(set.entry(service)).await?));
    }
    let stream = conversation.as_mut().unwrap();
    stream.get_mut().write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    if stream.read_line(&mut answer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
