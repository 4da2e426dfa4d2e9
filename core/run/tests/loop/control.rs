//! What the tests do to the fake components: count their calls, delay them, and make them fail.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use isr_api::{ComponentError, Streams};

/// What a call does instead of its work.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Work,
    BadInput(&'static str),
    Fail(&'static str),
    Panic(&'static str),
    Cancelled,
    /// Fails as where the disk is full.
    Full,
    /// Never returns.
    Hang,
    /// Waits, and then works.
    Sleep(Duration),
}

/// A call to a component: its number in this session (from 0) and what it is (`judge s1`).
pub(crate) struct Call<'a> {
    pub(crate) number: usize,
    pub(crate) name: &'a str,
}

type Rule = Box<dyn Fn(&Call<'_>) -> Act + Send + Sync>;

/// Every fake component asks before it works.
#[derive(Default)]
pub(crate) struct Control {
    rule: Option<Rule>,
    /// Whether calls are not recorded.
    silent: bool,
    /// Seed of random delays.
    delays: Option<u64>,
    calls: Mutex<Vec<String>>,
    under_way: Mutex<(usize, usize)>,
}

impl Control {
    pub(crate) fn with(rule: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static) -> Self {
        Self { rule: Some(Box::new(rule)), ..Self::default() }
    }

    /// Keeps no record of the calls, of which there may be millions.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Calls take up to 2 ms each, none the same.
    pub(crate) fn delayed(mut self, seed: u64) -> Self {
        self.delays = Some(seed);
        self
    }

    /// The calls so far, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// How often each call was made.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for call in self.calls() {
            *counts.entry(call).or_insert(0) += 1;
        }
        counts
    }

    /// The calls that are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.lock().unwrap().0
    }

    /// The most calls that were under way at once.
    pub(crate) fn most_under_way(&self) -> usize {
        self.under_way.lock().unwrap().1
    }

    pub(crate) async fn enter(&self, name: &str) -> Result<(), ComponentError> {
        if self.silent {
            return Ok(());
        }
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(name.to_owned());
            calls.len() - 1
        };
        let _counted = UnderWay::new(&self.under_way);
        if let Some(seed) = self.delays {
            let microseconds = Streams::new(seed).seed(0, "delay", name) % 2000;
            tokio::time::sleep(Duration::from_micros(microseconds)).await;
        }
        match self.rule.as_ref().map_or(Act::Work, |rule| rule(&Call { number, name })) {
            Act::Work => Ok(()),
            Act::BadInput(text) => Err(ComponentError::bad_input(text)),
            Act::Fail(text) => Err(ComponentError::failed(text)),
            Act::Panic(text) => panic!("{text}"),
            Act::Cancelled => Err(ComponentError::Cancelled),
            Act::Full => Err(ComponentError::failed(std::io::Error::from_raw_os_error(28))),
            Act::Hang => std::future::pending().await,
            Act::Sleep(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }
}

struct UnderWay<'a>(&'a Mutex<(usize, usize)>);

impl<'a> UnderWay<'a> {
    fn new(counter: &'a Mutex<(usize, usize)>) -> Self {
        let mut counts = counter.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        drop(counts);
        Self(counter)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}
