//! Datasets in a process: samples, preferences and demonstrations, read page by page.

use std::sync::Arc;

use async_trait::async_trait;
use futures::lock::Mutex;
use isr_api::messages::{
    DemonstrationMessage, PageMessage, PreferenceMessage, RowsMessage, SampleMessage, UnusableMessage,
};
use isr_api::{
    ComponentError, Demonstration, Demonstrations, LabelledSample, Preference, Preferences, Sample,
    SampleSource, UnusableRow,
};
use isr_config::plugin::PluginError;
use serde_json::Value;

use super::params;
use crate::keys;
use crate::session::Session;

/// Rows that are asked for at a time.
const PAGE: u64 = 1000;
/// Most rows of a set: a plugin that never ends must not fill the memory.
const MOST: u64 = 10_000_000;

/// A dataset whose component runs in a [`Session`]'s process.
pub struct RemoteRows {
    name: String,
    session: Session,
}

impl RemoteRows {
    /// A dataset on a session; errors carry `name`.
    pub fn new(name: &str, session: Session) -> Self {
        Self { name: name.to_owned(), session }
    }

    /// Reads a set. `read` gets each row with its number, from 1.
    async fn all<T>(
        &self,
        set: &'static str,
        mut read: impl FnMut(u64, Value) -> Result<T, String> + Send,
    ) -> Result<Vec<T>, ComponentError> {
        // Whatever is wrong with a page, no sample is to blame for it.
        let wrong = |text: String| PluginError::new(&self.name, set, text).failed();
        let mut rows = Vec::new();
        loop {
            let start = rows.len() as u64;
            let message = params(&RowsMessage { set: set.to_owned(), start, count: PAGE })?;
            let page = self.session.call("rows", message, None).await;
            let page = page.map_err(|error| wrong(error.to_string()))?;
            let PageMessage { rows: page, end } =
                keys::read(page).map_err(|reason| wrong(format!("its page cannot be read: {reason}")))?;
            if page.is_empty() && !end {
                return Err(wrong("its page is empty, and not the last".to_owned()));
            }
            if page.len() as u64 > PAGE || start + page.len() as u64 > MOST {
                return Err(wrong(format!(
                    "it gives more rows than the {PAGE} of a page, or {MOST} in all"
                )));
            }
            for row in page {
                let number = rows.len() as u64 + 1;
                rows.push(read(number, row).map_err(|reason| wrong(format!("row {number}: {reason}")))?);
            }
            if end {
                return Ok(rows);
            }
        }
    }

    /// Reads rows of which some may be unusable.
    async fn usable<T>(
        &self,
        read: impl Fn(String, Value) -> Result<T, String> + Send + Sync,
    ) -> Result<Vec<Result<T, UnusableRow>>, ComponentError> {
        let row = |number: u64, row: Value| {
            let origin = format!("{}:{number}", self.name);
            if row.get("reason").is_some() {
                let unusable: UnusableMessage = keys::read(row)?;
                return Ok(Err(unusable.into_row(origin)));
            }
            let named = row.get("origin").and_then(Value::as_str).map(str::to_owned);
            let unusable = |reason| UnusableRow { origin: named.unwrap_or_else(|| origin.clone()), reason };
            Ok(read(origin.clone(), row).map_err(unusable))
        };
        self.all("rows", row).await
    }
}

fn sample(row: Value) -> Result<SampleMessage, String> {
    if let Some(reason) = row.get("reason").and_then(Value::as_str) {
        return Err(format!("{reason}; a sample that cannot be used is left out by the plugin"));
    }
    keys::read(row)
}

fn labelled(row: Value) -> Result<LabelledSample, String> {
    LabelledSample::try_from(sample(row)?).map_err(|error| error.to_string())
}

#[async_trait]
impl SampleSource for RemoteRows {
    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        self.all("training", |_, row| sample(row).map(Sample::from)).await
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        self.all("evaluation", |_, row| labelled(row)).await
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        self.all("audit", |_, row| labelled(row)).await
    }
}

#[async_trait]
impl Preferences for RemoteRows {
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
        let pair =
            |origin, row| keys::read::<PreferenceMessage>(row).map(|row| row.into_preference(origin));
        self.usable(pair).await
    }
}

/// Demonstrations of a [`RemoteRows`], which are read once.
pub struct RemoteDemonstrations {
    rows: RemoteRows,
    read: Mutex<Option<Arc<Read>>>,
}

struct Read {
    usable: Vec<Demonstration>,
    unusable: Vec<UnusableRow>,
}

impl RemoteDemonstrations {
    /// Demonstrations on a session; errors carry `name`.
    pub fn new(name: &str, session: Session) -> Self {
        Self { rows: RemoteRows::new(name, session), read: Mutex::new(None) }
    }

    async fn read(&self) -> Result<Arc<Read>, ComponentError> {
        let mut read = self.read.lock().await;
        if let Some(read) = &*read {
            return Ok(Arc::clone(read));
        }
        let row = |id, row| keys::read::<DemonstrationMessage>(row).map(|row| row.into_demonstration(id));
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for row in self.rows.usable(row).await? {
            match row {
                Ok(row) => usable.push(row),
                Err(row) => unusable.push(row),
            }
        }
        Ok(Arc::clone(read.insert(Arc::new(Read { usable, unusable }))))
    }
}

#[async_trait]
impl Demonstrations for RemoteDemonstrations {
    async fn count(&self) -> Result<u64, ComponentError> {
        Ok(self.read().await?.usable.len() as u64)
    }

    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError> {
        let read = self.read().await?;
        let found = usize::try_from(index).ok().and_then(|index| read.usable.get(index));
        found.cloned().ok_or_else(|| {
            PluginError::new(&self.rows.name, "rows", format!("there is no demonstration {index}")).failed()
        })
    }

    async fn unusable(&self) -> Result<Vec<UnusableRow>, ComponentError> {
        Ok(self.read().await?.unusable.clone())
    }

    async fn corpus(&self) -> Result<Vec<String>, ComponentError> {
        let texts = |row: &Demonstration| {
            let turns = row.turns.iter().map(|turn| turn.text.clone());
            turns.chain([row.prompt.clone(), row.answer.clone()]).collect::<Vec<_>>()
        };
        Ok(self.read().await?.usable.iter().flat_map(texts).collect())
    }
}
