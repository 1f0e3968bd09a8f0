//! What a run says about its model: the ledger of its trainings, and the model card.

use taal_metrics::{Ledger, LedgerEntry, Report};
use taal_store::layout::MODEL_DIR;

use super::compute::Compute;
use super::record::Record;
use crate::checkpoint::About;
use crate::{card, ledger};

impl Record<'_> {
    /// The trainings that the model is made of, with this one as `report` has it.
    pub(super) fn ledger(&self, compute: &Compute<'_>, report: &Report) -> Ledger {
        let mut ledger = compute.state.inherited.clone();
        ledger.add(self.entry(compute, report));
        ledger
    }

    /// What is known of the training before its first step: checkpoints carry it, so that a run that is killed still has a ledger.
    pub(super) fn about(&mut self, compute: &Compute<'_>) -> About {
        let report = self.figures(compute, &[]);
        let (grid, pue) = compute.energy.electricity();
        About {
            entry: self.entry(compute, &report),
            flops_per_token: self.training.flops_per_token() as f64,
            grid: grid.clone(),
            pue,
        }
    }

    /// This training, with its figures.
    fn entry(&self, compute: &Compute<'_>, report: &Report) -> LedgerEntry {
        let state = &compute.state;
        let (train, validation) = self.tokens;
        LedgerEntry {
            id: state.run_id.clone(),
            name: self.run_name(),
            taal_version: env!("CARGO_PKG_VERSION").to_string(),
            started_unix_s: state.started_unix_s,
            machine: compute.energy.machine(),
            recipe: self.recipe_text.to_string(),
            data_hash: self.origin.data.clone(),
            data: ledger::data_facts(self.recipe),
            split_tokens: Some([train, validation]),
            flops: Some(self.training.flops_per_token() as f64 * report.tokens as f64),
            report: Some(Report {
                samples: Vec::new(),
                ledger: None,
                ..report.clone()
            }),
        }
    }

    pub(super) fn run_name(&self) -> String {
        let name = self.claim.dir().file_name();
        name.map_or(self.recipe.name.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// Writes ledger and card into the model directory that the run shows. Training does not depend on them, so a failure is a note.
    pub(super) fn write_about_model(&mut self, compute: &Compute<'_>, report: &Report) {
        let dir = self.path(MODEL_DIR);
        if !taal_store::is_dir(&dir) {
            // Nothing was saved yet.
            return;
        }
        let ledger = self.ledger(compute, report);
        let config = compute.learner.model.config();
        let language = self.page.language();
        match card::publish(&ledger, Some(config), &dir, &self.run_name(), language) {
            Ok(written) => {
                if let Some(kept) = written.kept {
                    let (kept, path) = (kept.display(), written.path.display());
                    self.note(&format!(
                        "{kept} was changed or is not Taal's; the model card is {path}"
                    ));
                }
            }
            Err(error) => self.note(&format!("the model card is not written: {error}")),
        }
    }
}
