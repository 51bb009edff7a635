//! Runs that did not get to their end. What they were to make again, because its inputs change, may be there still as it was, made
//! from inputs that are there no more. Nothing else in the lake would tell, so a run notes it before it begins.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, RunId};
use crate::error::Result;

/// Where the notes lie: an object a run, none for a run that makes nothing again.
const NOTES: &str = "runs/unfinished/";

/// The keys of objects, by the run that was to make them again.
type Notes = BTreeMap<RunId, BTreeSet<String>>;

fn key_of(run: &RunId) -> String {
    format!("{NOTES}{run}.json")
}

impl Context {
    /// The objects that other runs were to make again, and did not: they count as missing.
    ///
    /// # Errors
    /// The lake's.
    pub async fn unfinished(&self, own: Option<&RunId>) -> Result<BTreeSet<String>> {
        let (_, unfinished) = self.notes().await?;
        Ok(unfinished.into_iter().filter(|(run, _)| Some(run) != own).flat_map(|(_, keys)| keys).collect())
    }

    /// Notes what a run is to make again, and forgets what runs have made since it was noted.
    ///
    /// # Errors
    /// The lake's.
    pub async fn note_unfinished(&self, run: &RunId, again: BTreeSet<String>) -> Result<()> {
        let (finished, mut unfinished) = self.notes().await?;
        let before: BTreeSet<_> = finished.keys().chain(unfinished.keys()).cloned().collect();
        if !again.is_empty() {
            unfinished.entry(run.clone()).or_default().extend(again);
        }
        unfinished.retain(|_, keys| !keys.is_empty());
        for (run, keys) in &unfinished {
            self.lake.write_json(&key_of(run), keys).await?;
        }
        // Last: until then the notes of those that got to their end say what the others need no more.
        for run in before.iter().filter(|run| !unfinished.contains_key(*run)) {
            self.lake.store().delete(&key_of(run)).await?;
        }
        Ok(())
    }

    /// The notes of runs that got to their end since, and of those that did not, without what the former have made.
    async fn notes(&self) -> Result<(Notes, Notes)> {
        let (mut finished, mut unfinished) = (Notes::new(), Notes::new());
        for entry in self.lake.store().list(NOTES).await? {
            let name = entry.key.strip_prefix(NOTES).and_then(|name| name.strip_suffix(".json"));
            let Some(run) = name.and_then(|name| name.parse::<RunId>().ok()) else { continue };
            let Some(keys) = self.lake.read_json(&entry.key).await? else { continue };
            let notes = if self.is_reported(&run).await? { &mut finished } else { &mut unfinished };
            notes.insert(run, keys);
        }
        let made: BTreeSet<_> = finished.values().flatten().collect();
        unfinished.values_mut().for_each(|keys| keys.retain(|key| !made.contains(key)));
        Ok((finished, unfinished))
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_a_run_did_not_make_again_is_known_until_another_one_did() {
        let lab = crate::testing::Lab::new(&[crate::testing::AAVE], crate::testing::january(1)).unwrap();
        let context = lab.context();
        let run = |name: &str| name.parse::<RunId>().unwrap();
        let finish = async |name| context.lake.write_json(&run(name).key("report.json"), &"done").await.unwrap();
        context.note_unfinished(&run("1"), keys(&["a", "b", "c"])).await.unwrap();
        assert_eq!(context.unfinished(None).await.unwrap(), keys(&["a", "b", "c"]));
        assert_eq!(context.unfinished(Some(&run("1"))).await.unwrap(), keys(&[]));

        context.note_unfinished(&run("2"), keys(&["a", "b"])).await.unwrap();
        finish("2").await;
        assert_eq!(context.unfinished(None).await.unwrap(), keys(&["c"]));
        context.note_unfinished(&run("3"), keys(&[])).await.unwrap();
        let left = lab.objects(NOTES).await.unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["runs/unfinished/1.json"]);

        context.note_unfinished(&run("4"), keys(&["c"])).await.unwrap();
        finish("4").await;
        context.note_unfinished(&run("4"), keys(&["d"])).await.unwrap();
        context.forget_reports(&run("4")).await.unwrap();
        assert_eq!(context.unfinished(None).await.unwrap(), keys(&["d"]));
    }
}
