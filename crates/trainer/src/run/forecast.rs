//! The forecast of a run: made once after its first steps, graded at its end.

use taal_metrics::energy::Joule;
use taal_metrics::forecast::{forecast, forecast_loss};
use taal_metrics::{Forecast, ForecastPlan, Predicted, StepRecord};

use super::compute::Compute;
use super::record::Record;
use crate::recipe::{ModelRecipe, Objective};

/// Records that are kept for it; it is made long before a run has more.
const MAX_SEEN: usize = 100_000;

impl Compute<'_> {
    /// Makes the forecast of time and energy, and that of the loss after 10 % of the steps, says both, and keeps them for the report.
    pub(super) fn forecast_if_due(&mut self, figures: &StepRecord, record: &mut Record<'_>) {
        let plan = self.forecast_plan(record);
        if figures.step > plan.loss_step() || self.seen.len() >= MAX_SEEN {
            self.seen = Vec::new();
            return;
        }
        self.seen.push(figures.clone());
        let mut found = self.state.forecast;
        if found.is_none() && forecast(&self.seen, &plan).is_some() {
            // The meter is read once per second; the forecast begins with the energy until now.
            self.count_energy(None);
            found = forecast(&self.seen, &self.forecast_plan(record));
        }
        if let Some(found) = &mut found
            && found.loss.is_none()
        {
            found.loss = forecast_loss(&self.seen, &plan);
        }
        if let Some(found) = found.filter(|found| self.state.forecast != Some(*found)) {
            record.note(&words(&found));
            self.state.forecast = Some(found);
        }
    }

    fn forecast_plan(&self, record: &Record<'_>) -> ForecastPlan {
        let train = &self.recipe.train;
        let val_tokens = record.tokens.1;
        let is_next_token = matches!(train.objective, Objective::NextToken);
        ForecastPlan {
            steps: train.steps,
            eval_every: (val_tokens > 0).then_some(self.recipe.eval.every),
            val_tokens,
            wall_s: self.clock.wall_s(),
            joules: self.energy.is_metered().then_some(self.state.energy.energy.joules.0),
            vocab_size: record.tokenizer.vocab_size() as u64,
            peak_lr: train.schedule.lr,
            is_adamw_only: train.muon.is_none(),
            is_from_nothing: is_next_token && matches!(self.recipe.model, ModelRecipe::New { .. }),
        }
    }

    /// Compares the forecast with a run that came to its last step; one that ended early was not what it was about.
    pub(super) fn grade_forecast(&mut self) {
        let is_whole = self.state.step == self.recipe.train.steps;
        let forecast = self
            .state
            .forecast
            .filter(|forecast| is_whole && forecast.steps == self.state.step);
        if let Some(forecast) = forecast {
            let joules = self.energy.is_metered().then_some(self.state.energy.energy.joules.0);
            self.state.forecast = Some(forecast.graded(self.state.wall_s, joules, self.state.val_loss));
        }
    }
}

fn words(forecast: &Forecast) -> String {
    let between = |predicted: &Predicted, show: &dyn Fn(f64) -> String| {
        let [value, low, high] = [predicted.value, predicted.low, predicted.high].map(show);
        format!("{value} ({low} to {high})")
    };
    let seconds = between(&forecast.seconds, &|seconds| match seconds < 120.0 {
        true => format!("{seconds:.0} s"),
        false => format!("{:.1} min", seconds / 60.0),
    });
    let joules = forecast.joules.map_or(String::new(), |joules| {
        format!(
            ", {}",
            between(&joules, &|joules| Joule(joules).watt_hours().to_string())
        )
    });
    let loss = forecast.loss.map_or(String::new(), |loss| {
        format!(", validation loss {}", between(&loss, &|loss| format!("{loss:.2}")))
    });
    format!("forecast after step {}: {seconds}{joules}{loss}", forecast.step)
}
