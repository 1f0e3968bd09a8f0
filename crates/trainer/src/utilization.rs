//! Model FLOPs utilization relative to a peak that may have been measured while the machine was busy.

use burn::tensor::Device;
use taal_kernels::Precision;
use taal_metrics::flops::Training;

/// The highest known speed of the machine: the measured peak, or the speed that training reached if that is higher.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Peak {
    measured_flops_per_s: f64,
    reached_flops_per_s: f64,
    /// The precision of the products that are measured.
    precision: Precision,
}

impl Peak {
    /// Measures the peak of a device for products in a precision. That takes half a second.
    pub(crate) fn measured(device: &Device, precision: Precision) -> Self {
        Self::new(taal_kernels::measured_peak_flops_per_s_of(device, precision), precision)
    }

    /// A measured peak; 0 if it was not measured.
    fn new(measured_flops_per_s: f64, precision: Precision) -> Self {
        Self {
            measured_flops_per_s,
            reached_flops_per_s: 0.0,
            precision,
        }
    }

    /// FLOP/s of the peak; 0 if it was not measured.
    pub(crate) fn flops_per_s(&self) -> f64 {
        match self.measured_flops_per_s > 0.0 {
            true => self.measured_flops_per_s.max(self.reached_flops_per_s),
            false => 0.0,
        }
    }

    /// Whether training was faster than the measured peak. Then the peak is only a lower bound, and the utilization an
    /// upper bound.
    pub(crate) fn is_lower_bound(&self) -> bool {
        self.measured_flops_per_s > 0.0 && self.reached_flops_per_s > self.measured_flops_per_s
    }

    /// The utilization at a speed; 0 without a peak. If the speed is above the peak, it becomes the new peak.
    pub(crate) fn utilization(&mut self, tokens_per_s: f64, training: &Training) -> f64 {
        let reached = tokens_per_s * training.flops_per_token() as f64;
        if reached.is_finite() {
            self.reached_flops_per_s = self.reached_flops_per_s.max(reached);
        }
        match self.flops_per_s() {
            peak if peak > 0.0 => reached / peak,
            _ => 0.0,
        }
    }

    /// Measures again if training was faster than the first measurement. That takes half a second.
    pub(crate) fn measure_again(&mut self, device: &Device) {
        if self.is_lower_bound() {
            let again = taal_kernels::peak_flops_per_s_measured_again(device, self.precision);
            self.measured_flops_per_s = self.measured_flops_per_s.max(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use taal_model::{ModelSize, TransformerConfig};

    use super::*;

    #[test]
    fn report_25_utilisation_is_never_more_than_all_of_the_peak() {
        let config = TransformerConfig::llama(ModelSize {
            vocab_size: 64,
            max_seq_len: 32,
            n_layers: 1,
            n_heads: 2,
            d_model: 16,
        });
        let training = Training::whole(config.shape(32));
        let per_token = training.flops_per_token() as f64;
        // The measured peak is a tenth of what the steps then reach.
        let mut peak = Peak::new(100.0 * per_token, Precision::Fp32);
        let shares: Vec<f64> = [1000.0, 500.0, 1200.0, 600.0]
            .map(|tokens_per_s| peak.utilization(tokens_per_s, &training))
            .to_vec();
        assert_eq!(shares, [1.0, 0.5, 1.0, 0.5]);
        assert!(peak.is_lower_bound());
        assert_eq!(peak.flops_per_s(), 1200.0 * per_token);
        // A peak above every reached speed does not change, and 0 stays 0.
        let mut unreached = Peak::new(1e4 * per_token, Precision::Fp32);
        assert_eq!(unreached.utilization(1000.0, &training), 0.1);
        assert!(!unreached.is_lower_bound());
        let mut none = Peak::new(0.0, Precision::Fp32);
        assert_eq!((none.utilization(1000.0, &training), none.flops_per_s()), (0.0, 0.0));
    }
}
