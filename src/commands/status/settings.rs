//! `workspace status --settings`: each setting in force, where it comes from, and whether the store answers.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Context;
use crate::failure::{self, Exit};
use crate::settings::{Purpose, Setting};
use crate::store::bucket::{Bucket, BucketError};
use crate::store::{Store, StoreError};

#[derive(Serialize)]
struct Report {
    location: String,
    settings: Vec<Setting>,
    works: bool,
    /// `null` where it works and the bucket has been written to.
    note: Option<String>,
}

/// Each setting, its source, and whether the store answers.
pub async fn run(context: &Context, json: bool) -> anyhow::Result<ExitCode> {
    let settings = context.settings(Purpose::Interactive)?;
    let store = Store::connect(&settings.store).await?;
    let tried = Bucket::open_for_reading(&store).await;
    let (failed, note) = match tried {
        Ok(Some(_)) => (None, None),
        Ok(None) => (None, Some("nothing has been uploaded to the bucket yet".to_owned())),
        Err(BucketError::Store(StoreError::NoBucket { bucket })) => {
            (None, Some(format!("the bucket `{bucket}` does not exist yet; the first upload creates it")))
        }
        Err(error) => {
            let text = error.to_string();
            (Some(anyhow::Error::new(error)), Some(text))
        }
    };
    let report = Report { location: store.location(), settings: settings.report, works: failed.is_none(), note };
    if json {
        context.output.json(&report)?;
    } else {
        let row = |setting: &Setting| {
            vec![
                setting.name.to_owned(),
                setting.value.clone().unwrap_or_else(|| "-".to_owned()),
                setting.source.clone(),
            ]
        };
        let rows: Vec<_> = report.settings.iter().map(row).collect();
        context.output.table(&["SETTING", "VALUE", "FROM"], &rows);
        if failed.is_none() {
            context.output.note(&format!("{} works", report.location));
            if let Some(note) = &report.note {
                context.output.note(note);
            }
        }
    }
    match failed {
        None => Ok(Exit::Success.into()),
        Some(error) => Ok(failure::report(&context.output, &error)),
    }
}
