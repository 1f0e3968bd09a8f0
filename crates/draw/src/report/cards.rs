//! The key figures of a run as cards.

use taal_metrics::energy::{EnergyFigures, GramCo2e, Joule};
use taal_metrics::{
    AnswerFigures, Forecast, ForgettingFigures, GuessFigures, LedgerTotals, MaskedFigures, Predicted, perplexity,
};

use super::RunPage;
use crate::escape;
use crate::texts::fill;

/// Cards under construction.
#[derive(Default)]
struct Cards {
    html: String,
}

impl Cards {
    fn add(&mut self, label: &str, figure: &str, note: &str) {
        let note = match note {
            "" => String::new(),
            note => format!("<dd class=\"note\">{note}</dd>"),
        };
        self.html.push_str(&format!(
            "<div><dt>{label}</dt><dd class=\"figure\">{figure}</dd>{note}</div>\n"
        ));
    }
}

impl RunPage<'_> {
    /// The figures as cards; those that were not measured are left out.
    pub(super) fn key_figures(&self) -> String {
        let mut cards = Cards::default();
        self.losses(&mut cards);
        self.sizes(&mut cards);
        self.costs(&mut cards);
        for (label, value, unit) in self.report.figure_rows() {
            cards.add(
                &escape(label),
                &self.language.numbers().significant(value),
                &escape(unit),
            );
        }
        format!("<dl class=\"figures\">\n{}</dl>\n{}", cards.html, self.missing_energy())
    }

    /// What the energy figures miss and what went wrong with sensors, a paragraph each.
    fn missing_energy(&self) -> String {
        let text = self.language.texts().report.energy_missing;
        let notes = self.report.energy.iter().flat_map(|energy| &energy.notes);
        let paragraph = |note: &String| {
            let note = match self.language.meter_sentence(note) {
                Some(note) => escape(&note),
                // A sentence of another version.
                None => format!("<span lang=\"en\">{}</span>", escape(note)),
            };
            format!("<p class=\"quiet\">{}</p>\n", fill(text, &[("note", &note)]))
        };
        notes.map(paragraph).collect()
    }

    fn losses(&self, cards: &mut Cards) {
        let Self { report, language, .. } = self;
        let (texts, numbers) = (&language.texts().report, language.numbers());
        if let Some(loss) = report.val_loss {
            let note = match report.val_tokens {
                Some(tokens) => fill(texts.over_tokens, &[("count", &numbers.grouped(tokens))]),
                None => texts.per_token.to_owned(),
            };
            cards.add(texts.val_loss, &numbers.decimals(loss, 4), &note);
            let perplexity = numbers.significant(perplexity(loss));
            cards.add(texts.perplexity, &perplexity, texts.on_validation);
        }
        if let Some(loss) = report.best_val_loss {
            let note = match report.best_step {
                Some(step) => fill(texts.at_step, &[("step", &numbers.grouped(step))]),
                None => texts.per_token.to_owned(),
            };
            cards.add(texts.best_val_loss, &numbers.decimals(loss, 4), &note);
        }
        if let Some(bits) = report.val_bits_per_byte {
            cards.add(texts.bits_per_byte, &numbers.decimals(bits, 4), texts.on_validation);
        }
        for source in &report.sources {
            let (figure, unit) = match source.bits_per_byte {
                Some(bits) => (bits, texts.bits_per_byte),
                None => (source.loss, texts.per_token),
            };
            let label = fill(texts.val_of_source, &[("source", &escape(&source.name))]);
            cards.add(&label, &numbers.decimals(figure, 4), unit);
        }
        if let Some(answers) = &report.answers {
            self.answers(answers, cards);
        }
        if let Some(forgetting) = &report.forgetting {
            self.forgetting(forgetting, cards);
        }
        if let Some(masked) = &report.masked {
            self.hidden_tokens(masked, cards);
        }
        if report.steps > 0 {
            cards.add(
                texts.train_loss,
                &numbers.decimals(report.train_loss, 4),
                texts.last_step,
            );
        }
    }

    fn answers(&self, answers: &AnswerFigures, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let labels = [
            (texts.answers, texts.answers_note, &answers.model),
            (texts.nearest, texts.nearest_note, &answers.nearest),
        ];
        for (label, note, score) in labels {
            let Some(score) = score else { continue };
            // Figures of a whole text, such as BLEU, are from 0 to 100 already.
            let is_share = answers.metric.of_corpus().is_none();
            let (scale, unit) = if is_share { (100.0, " %") } else { (1.0, "") };
            let [low, high] = score.interval.map(|bound| numbers.decimals(scale * bound, 1));
            let value = match is_share {
                true => numbers.percent(score.value),
                false => numbers.decimals(score.value, 1),
            };
            let (metric, first) = (answers.metric.to_string(), numbers.percent(score.first_word));
            let count = numbers.grouped(answers.questions);
            let values = [
                ("metric", metric.as_str()),
                ("low", &low),
                ("high", &high),
                ("unit", unit),
                ("first", &first),
                ("count", &count),
            ];
            cards.add(label, &value, &fill(note, &values));
        }
    }

    fn forgetting(&self, found: &ForgettingFigures, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let (before, data) = (numbers.decimals(found.before, 4), escape(&found.data));
        let (Some(after), Some(rise)) = (found.after, found.rise()) else {
            cards.add(texts.old_loss, &before, &fill(texts.old_before, &[("data", &data)]));
            return;
        };
        let sign = if rise < 0.0 { "-" } else { "+" };
        let rise = format!("{sign}{}", numbers.decimals(rise.abs(), 4));
        let values = [("before", before.as_str()), ("rise", &rise), ("data", &data)];
        cards.add(
            texts.old_loss,
            &numbers.decimals(after, 4),
            &fill(texts.old_rise, &values),
        );
    }

    fn hidden_tokens(&self, masked: &MaskedFigures, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let share = |figures: &GuessFigures| numbers.percent(figures.accuracy);
        let [low, high] = masked.model.accuracy_interval;
        let values = [
            ("low", numbers.decimals(100.0 * low, 1)),
            ("high", numbers.decimals(100.0 * high, 1)),
            ("neighbors", share(&masked.neighbors)),
            ("unigram", share(&masked.unigram)),
        ];
        let note = fill(
            texts.hidden_note,
            &values.each_ref().map(|(name, value)| (*name, value.as_str())),
        );
        cards.add(texts.hidden_tokens, &share(&masked.model), &note);
    }

    fn sizes(&self, cards: &mut Cards) {
        let Self { report, language, .. } = self;
        let (texts, numbers) = (&language.texts().report, language.numbers());
        cards.add(texts.parameters, &numbers.counted(report.params), "");
        let of_steps = match report.steps < report.planned_steps {
            true => fill(texts.of_steps, &[("steps", &numbers.grouped(report.planned_steps))]),
            false => String::new(),
        };
        cards.add(texts.steps, &numbers.grouped(report.steps), &of_steps);
        let passes = match report.epochs {
            epochs if epochs.is_finite() && epochs > 0.0 => {
                fill(texts.times_over, &[("times", &numbers.significant(epochs))])
            }
            _ => String::new(),
        };
        cards.add(texts.tokens_seen, &numbers.counted(report.tokens), &passes);
    }

    fn costs(&self, cards: &mut Cards) {
        let Self { report, language, .. } = self;
        let (texts, numbers) = (&language.texts().report, language.numbers());
        cards.add(texts.time, &numbers.duration(report.wall_s), "");
        if report.steps > 0 {
            let speed = numbers.significant(report.tokens_per_s);
            cards.add(texts.speed, &speed, texts.per_second);
            let over = match report.peak_is_lower_bound {
                true => texts.utilization_at_most,
                false => texts.utilization_note,
            };
            cards.add(texts.utilization, &numbers.percent(report.mfu), over);
        }
        if report.peak_rss_bytes > 0 {
            cards.add(texts.peak_memory, &numbers.bytes(report.peak_rss_bytes), "");
        }
        if let Some(energy) = &report.energy {
            self.energy(energy, cards);
        }
        if let Some(totals) = &report.ledger {
            self.ledger(totals, cards);
        }
        if let Some(forecast) = &report.forecast {
            self.forecast(forecast, cards);
        }
    }

    /// What the first steps said about time, energy and loss, and whether they were right.
    fn forecast(&self, forecast: &Forecast, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let amount = |joules: f64| numbers.localized(&Joule(joules).watt_hours().to_string());
        let mut parts = Vec::new();
        let mut grades = Vec::new();
        let mut add = |predicted: &Predicted, show: &dyn Fn(f64) -> String| {
            let verdict = match predicted.is_inside() {
                Some(true) => texts.forecast_inside,
                Some(false) => texts.forecast_outside,
                None => "",
            };
            grades.extend(predicted.is_inside());
            let [value, low, high] = [predicted.value, predicted.low, predicted.high].map(show);
            let values = [
                ("value", value.as_str()),
                ("low", &low),
                ("high", &high),
                ("verdict", verdict),
            ];
            parts.push(fill(texts.forecast_part, &values).trim_end().to_owned());
        };
        add(&forecast.seconds, &|seconds| numbers.duration(seconds));
        if let Some(joules) = &forecast.joules {
            add(joules, &amount);
        }
        if let Some(loss) = &forecast.loss {
            add(loss, &|loss| numbers.decimals(loss, 2));
        }
        let right = grades.iter().filter(|is_inside| **is_inside).count();
        let figure = match grades.is_empty() {
            true => fill(texts.forecast_after, &[("step", &numbers.grouped(forecast.step))]),
            false => format!("{right} / {}", grades.len()),
        };
        cards.add(texts.forecast, &figure, &parts.join("; "));
    }

    /// This training with those that it inherits.
    fn ledger(&self, totals: &LedgerTotals, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let amount = |joules: f64| numbers.localized(&Joule(joules).watt_hours().to_string());
        let values = [
            ("count", numbers.grouped(totals.trainings)),
            ("low", amount(totals.low)),
            ("high", amount(totals.high)),
            ("gases", numbers.localized(&GramCo2e(totals.co2e_g).to_string())),
            ("unknown", numbers.grouped(totals.unknown)),
        ];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        let note = match totals.unknown {
            0 => fill(texts.inherited_note, &values),
            _ => fill(texts.inherited_without, &values),
        };
        cards.add(texts.inherited, &amount(totals.joules), &note);
    }

    fn energy(&self, energy: &EnergyFigures, cards: &mut Cards) {
        let (texts, numbers) = (&self.language.texts().report, self.language.numbers());
        let amount = |joules: f64| numbers.localized(&Joule(joules).watt_hours().to_string());
        let gases = |grams: f64| numbers.localized(&GramCo2e(grams).to_string());
        let source = escape(&energy.source);
        let (low, high) = (amount(energy.low), amount(energy.high));
        let mut note = fill(
            texts.energy_note,
            &[("low", &low), ("high", &high), ("source", &source)],
        );
        if let Some(preparation) = &energy.preparation {
            let values = [
                ("energy", amount(preparation.joules)),
                ("time", numbers.duration(preparation.seconds)),
            ];
            let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
            note += &format!("; {}", fill(texts.energy_preparation, &values));
        }
        cards.add(texts.energy, &amount(energy.joules), &note);
        let year = energy.year.map_or(String::new(), |year| format!(" {year}"));
        let grid = escape(&format!("{}{year}", energy.grid));
        let (grams, pue) = (numbers.decimals(energy.g_per_kwh, 0), numbers.significant(energy.pue));
        let embodied = gases(energy.co2e_embodied_g);
        let values = [
            ("grams", grams.as_str()),
            ("grid", &grid),
            ("pue", &pue),
            ("embodied", &embodied),
        ];
        cards.add(
            "CO<sub>2</sub>e",
            &gases(energy.co2e_g),
            &fill(texts.co2e_note, &values),
        );
    }
}
