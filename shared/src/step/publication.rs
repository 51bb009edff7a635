//! Publishing a feature set that passed its checks. Readers of the catalog see the old set or the new one, because the
//! catalog points to a checked copy while the folder of the table is rewritten. Readers of the folder never see an
//! object that was not checked.

use super::Context;
use crate::domain::Day;
use crate::error::{Error, Kind, Result};
use crate::lake::{FeatureSet, SetDigest};

impl Context {
    /// Publishes the features of a day: points the catalog to a copy of the build, rewrites the folder of the table, and
    /// points the catalog to that. Nothing moves if the build equals the published set. Each part can be repeated, and
    /// the whole can be continued after an interruption.
    ///
    /// # Errors
    /// `QualityFailed` if the build has no passed check on record, or differs from the set that passed. `CorruptData` if
    /// `defi_features` points to a later day that is after today or has no objects. The errors of the lake and the
    /// catalog.
    pub async fn publish(&self, as_of: Day) -> Result<()> {
        self.reject_invalid_pointer(as_of).await?;
        self.finish_pointed_sets().await?;
        let (build, published) = (FeatureSet::build(as_of), FeatureSet::published(as_of));
        let passed = self.lake.passed_check(as_of).await?.ok_or_else(|| unchecked(as_of))?;
        let checked = FeatureSet::checked(as_of, &passed.digest);
        let is_passed = |digest: &SetDigest| digest.to_string() == passed.digest;
        let built = self.lake.set_digest(&build).await?;
        let in_place = self.lake.set_digest(&published).await?.filter(is_passed);
        // A call that was interrupted while it deleted the build left a part of it.
        let is_left_over = |built: &SetDigest| in_place.as_ref().is_some_and(|in_place| in_place.contains(built));
        if built.as_ref().is_some_and(|built| !is_passed(built) && !is_left_over(built)) {
            return Err(unchecked(as_of));
        }
        if in_place.is_some() {
            if !self.registry.is_published(as_of).await? {
                self.registry.point_to(&published).await?;
            }
        } else {
            let missing = || Error::new(Kind::NotReady, "the features are not built yet").with("as_of", as_of);
            self.lake.copy_set(&build, &built.ok_or_else(missing)?, &checked).await?;
            self.registry.point_to(&checked).await?;
            if !self.lake.shards(&published).await?.is_empty() {
                // Queries that resolved the catalog's pointer before still read the folder.
                tokio::time::sleep(self.wait_for_readers).await;
            }
            self.finish_publication(&checked).await?;
        }
        // Readers that resolved the catalog's pointer during this call still read the checked copy. A later run deletes
        // it.
        self.lake.prune_states(self.config.states.daily).await?;
        self.lake.delete_builds(Some(&checked)).await?;
        self.lake.delete_records_of_deleted().await
    }

    /// Finishes the publication of sets to whose checked copy the catalog still points, because a run was interrupted,
    /// and deletes the records that it left of deleted builds and states.
    ///
    /// # Errors
    /// The errors of the lake and the catalog.
    pub async fn finish_publications(&self) -> Result<()> {
        self.finish_pointed_sets().await?;
        self.lake.delete_records_of_deleted().await
    }

    /// Returns whether [`Context::finish_publications`] has something to do.
    ///
    /// # Errors
    /// The errors of the lake and the catalog.
    pub async fn has_unfinished_publications(&self) -> Result<bool> {
        Ok(!self.pointed_copies().await?.is_empty() || self.lake.has_records_of_deleted().await?)
    }

    async fn finish_pointed_sets(&self) -> Result<()> {
        for set in self.pointed_copies().await? {
            self.finish_publication(&set).await?;
        }
        Ok(())
    }

    /// Returns the checked copies to which the catalog points: those of publications that were interrupted. Readers of
    /// the catalog see them whole; the folder of the table may have objects of the set before.
    async fn pointed_copies(&self) -> Result<Vec<FeatureSet>> {
        let sets = self.registry.published_sets().await?.into_iter().chain(self.registry.newest_set().await?);
        Ok(sets.filter(FeatureSet::is_checked_copy).collect())
    }

    /// Copies a checked set into the folder of the table and points the catalog there. The folder is named after the
    /// digest of the set, and the record of the check has the same digest: whoever may write one or the other alone can
    /// publish nothing.
    async fn finish_publication(&self, checked: &FeatureSet) -> Result<()> {
        let published = FeatureSet::published(checked.as_of);
        let (digest, passed) =
            tokio::try_join!(self.lake.set_digest(checked), self.lake.recorded_check(checked.as_of))?;
        let is_checked = |digest: &SetDigest| {
            let digest = digest.to_string();
            *checked == FeatureSet::checked(checked.as_of, &digest)
                && passed.as_ref().is_some_and(|passed| passed.digest == digest)
        };
        let digest = digest.filter(is_checked);
        let digest = digest.ok_or_else(|| {
            Error::corrupt("the catalog points to a checked feature set whose objects are not the checked ones")
                .with("folder", &checked.folder)
                .with_hint("delete the partition of this day from defi_features_history, and run again")
        })?;
        self.lake.copy_set(checked, &digest, &published).await?;
        self.registry.point_to(&published).await
    }

    /// Rejects a catalog in which `defi_features` points to a later day that no run can have published: to a day after
    /// today, to no objects, or to a folder of another day. It never goes back in time, so it would never move again.
    async fn reject_invalid_pointer(&self, as_of: Day) -> Result<()> {
        let Some(newest) = self.registry.newest_set().await?.filter(|newest| newest.as_of > as_of) else {
            return Ok(());
        };
        let problem = if newest.as_of > self.today {
            format!("defi_features points to {}, which is after today, {}", newest.as_of, self.today)
        } else if self.lake.shards(&newest).await?.is_empty() {
            format!("defi_features points to {}, which has no objects", newest.as_of)
        } else if !newest.can_be_published() {
            format!("defi_features points to {}, but to a folder that is not of this day", newest.as_of)
        } else {
            return Ok(());
        };
        Err(Error::corrupt(problem)
            .with("folder", newest.folder)
            .with_hint("delete the table defi_features from the catalog; the next run registers it again"))
    }
}

fn unchecked(as_of: Day) -> Error {
    Error::new(Kind::QualityFailed, "the build of the features is not one that passed its checks")
        .with("as_of", as_of)
        .with_hint("run check-features for this day first")
}
