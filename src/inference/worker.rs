//! The threads that own networks, and the bounded queue before them.
//!
//! Overflow policy: [`Workers::submit`] refuses when the queue is full; the caller says so. A request whose asker has gone is dropped
//! and counted. A panic in a job ends that job, not the thread.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::batch::{Cut, Waiting, cut};
use crate::telemetry;

/// A request with the shape it may be batched by.
pub trait Job: Send + 'static {
    /// Jobs of equal shape may run together.
    type Shape: PartialEq;
    /// Its shape.
    fn shape(&self) -> Self::Shape;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Whoever runs batches; one for each thread.
pub trait Runner<J>: Send + 'static {
    /// Runs jobs of one shape and answers each.
    fn run(&mut self, batch: Vec<J>);
}

/// How batches are cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchRule {
    /// Largest batch.
    pub max: usize,
    /// How long a batch waits to fill up.
    pub wait: Duration,
    /// Most waiting requests.
    pub capacity: usize,
}

struct State<J> {
    queue: VecDeque<(Instant, J)>,
    stopped: bool,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
    rule: BatchRule,
}

/// Worker threads with their queue.
pub struct Workers<J: Job> {
    shared: Arc<Shared<J>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    count: usize,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The workers have stopped.
    Stopped,
}

impl<J: Job> Workers<J> {
    /// Starts one thread for each runner.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, runners: Vec<impl Runner<J>>, rule: BatchRule) -> std::io::Result<Self> {
        let state = State { queue: VecDeque::new(), stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), rule });
        let count = runners.len();
        let mut threads = Vec::with_capacity(count);
        for (i, mut runner) in runners.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("{name}-{i}"));
            threads.push(thread.spawn(move || shared.work(&mut runner))?);
        }
        Ok(Self { shared, threads: Mutex::new(threads), count })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether [`Workers::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.shared.lock().stopped
    }

    /// Hands a request over.
    ///
    /// # Errors
    /// When the queue is full or the workers have stopped.
    pub fn submit(&self, job: J) -> Result<(), Refused> {
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(Refused::Stopped);
        }
        if state.queue.len() >= self.shared.rule.capacity {
            return Err(Refused::Full);
        }
        state.queue.push_back((Instant::now(), job));
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Stops the threads after their present batch and waits for them; waiting requests are dropped. Blocks.
    pub fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            state.queue.clear();
        }
        self.shared.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("an inference thread ended badly");
            }
        }
    }
}

impl<J: Job> Drop for Workers<J> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<J: Job> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, runner: &mut impl Runner<J>) {
        let mut waiting = Vec::new();
        while let Some(batch) = self.next(&mut waiting) {
            if catch_unwind(AssertUnwindSafe(|| runner.run(batch))).is_err() {
                tracing::error!("a batch ended in a panic; its requests fail, the worker goes on");
            }
        }
    }

    /// The next batch; `None` when the workers stop. `waiting` is memory to use.
    fn next(&self, waiting: &mut Vec<Waiting<J::Shape>>) -> Option<Vec<J>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let before = state.queue.len();
            state.queue.retain(|(_, job)| !job.is_abandoned());
            telemetry::requests_abandoned((before - state.queue.len()) as u64);
            waiting.clear();
            waiting.extend(state.queue.iter().map(|(since, job)| Waiting { shape: job.shape(), since: *since }));
            match cut(waiting, Instant::now(), self.rule.max, self.rule.wait) {
                Cut::Run(indices) => {
                    let mut batch = Vec::with_capacity(indices.len());
                    // From the back, so that earlier indices stay right.
                    for i in indices.into_iter().rev() {
                        batch.extend(state.queue.remove(i));
                    }
                    batch.reverse();
                    drop(state);
                    let now = Instant::now();
                    telemetry::batch_cut(batch.iter().map(|(since, _)| now.saturating_duration_since(*since)));
                    return Some(batch.into_iter().map(|(_, job)| job).collect());
                }
                Cut::WaitUntil(due) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    let woken = self.changed.wait_timeout(state, wait);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                Cut::Idle => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    struct Echo(u32, oneshot::Sender<usize>);

    impl Job for Echo {
        type Shape = ();
        fn shape(&self) {}
        fn is_abandoned(&self) -> bool {
            self.1.is_closed()
        }
    }

    struct Size;

    impl Runner<Echo> for Size {
        fn run(&mut self, batch: Vec<Echo>) {
            let size = batch.len();
            assert!(batch.iter().all(|j| j.0 != 13), "thirteen");
            for job in batch {
                let _ = job.1.send(size);
            }
        }
    }

    fn workers(capacity: usize, wait: Duration) -> Workers<Echo> {
        Workers::start("test", vec![Size], BatchRule { max: 3, wait, capacity }).unwrap()
    }

    #[tokio::test]
    async fn requests_are_batched_and_answered() {
        let workers = workers(8, Duration::from_secs(5));
        let answers: Vec<_> = (0..3)
            .map(|i| {
                let (tx, rx) = oneshot::channel();
                workers.submit(Echo(i, tx)).unwrap();
                rx
            })
            .collect();
        for answer in answers {
            assert_eq!(answer.await.unwrap(), 3);
        }
    }

    #[tokio::test]
    async fn a_panic_fails_its_batch_only_and_stop_refuses() {
        let workers = workers(8, Duration::ZERO);
        let (tx, rx) = oneshot::channel();
        workers.submit(Echo(13, tx)).unwrap();
        assert!(rx.await.is_err());
        let (tx, rx) = oneshot::channel();
        workers.submit(Echo(1, tx)).unwrap();
        assert_eq!(rx.await.unwrap(), 1);
        workers.stop();
        assert_eq!(workers.submit(Echo(1, oneshot::channel().0)), Err(Refused::Stopped));
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let workers = workers(2, Duration::from_secs(60));
        let keep: Vec<_> = (0..2)
            .map(|i| {
                let (tx, rx) = oneshot::channel();
                workers.submit(Echo(i, tx)).unwrap();
                rx
            })
            .collect();
        let (tx, _rx) = oneshot::channel();
        assert_eq!(workers.submit(Echo(9, tx)), Err(Refused::Full));
        drop(keep);
    }

    /// One camera of an overloaded server: it asks again as soon as it is answered.
    struct Ask {
        camera: usize,
        shape: usize,
    }

    impl Job for Ask {
        type Shape = usize;
        fn shape(&self) -> usize {
            self.shape
        }
        fn is_abandoned(&self) -> bool {
            false
        }
    }

    /// Answers, and puts the asker's next request at the end of the queue, until enough was seen.
    struct Rounds {
        workers: Arc<std::sync::OnceLock<std::sync::Weak<Workers<Ask>>>>,
        seen: Vec<usize>,
        wanted: usize,
        done: std::sync::mpsc::SyncSender<Vec<usize>>,
    }

    impl Runner<Ask> for Rounds {
        fn run(&mut self, batch: Vec<Ask>) {
            let workers = self.workers.wait().upgrade();
            for ask in batch {
                self.seen.push(ask.camera);
                if let Some(workers) = &workers {
                    let _ = workers.submit(ask);
                }
            }
            if self.seen.len() >= self.wanted {
                // Later batches find nobody who listens.
                let _ = self.done.try_send(std::mem::take(&mut self.seen));
            }
        }
    }

    /// The order in which `cameras` cameras with frames of `shapes` shapes are served by one worker that can't keep up.
    fn served(cameras: usize, shapes: usize, max: usize) -> Vec<usize> {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let late = Arc::new(std::sync::OnceLock::new());
        let runner = Rounds { workers: late.clone(), seen: Vec::new(), wanted: cameras * 50, done };
        let rule = BatchRule { max, wait: Duration::ZERO, capacity: cameras };
        let workers = Arc::new(Workers::start("test", vec![runner], rule).unwrap());
        for camera in 0..cameras {
            workers.submit(Ask { camera, shape: camera % shapes }).unwrap();
        }
        late.set(Arc::downgrade(&workers)).unwrap();
        let seen = result.recv().unwrap();
        workers.stop();
        seen
    }

    #[test]
    fn an_overloaded_worker_serves_every_camera_evenly_and_none_waits_longer_than_the_others_take() {
        for (cameras, shapes, max) in [(17, 1, 1), (17, 1, 8), (40, 3, 1), (40, 3, 8), (5, 5, 8)] {
            let seen = served(cameras, shapes, max);
            let count = |camera| seen.iter().filter(|c| **c == camera).count();
            let counts: Vec<usize> = (0..cameras).map(count).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            // Cameras of one shape share batches, so a shape that fewer have gets ahead by a round now and then, not for ever.
            let spread = if shapes == 1 || max == 1 { 1 } else { 50 / 2 };
            assert!(most - least <= spread, "{cameras} cameras, {shapes} shapes, batches of {max}: {counts:?}");
            for camera in 0..cameras {
                let turns: Vec<usize> = (0..seen.len()).filter(|i| seen[*i] == camera).collect();
                let longest = turns.windows(2).map(|w| w[1] - w[0]).max().unwrap();
                assert!(longest <= cameras * max.min(cameras), "camera {camera} waited for {longest} others");
            }
        }
    }
}
