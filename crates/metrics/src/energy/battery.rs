//! The discharge of a laptop's battery: the power of the whole machine, while it is not plugged in.

use super::files::SensorFiles;

const DIRECTORY: &str = "sys/class/power_supply";

/// The batteries that discharge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batteries {
    names: Vec<String>,
}

impl Batteries {
    /// The batteries of the machine, discharging or not.
    pub(super) fn find(files: &dyn SensorFiles) -> Option<Self> {
        let is_battery = |name: &String| {
            let read = |file: &str| files.read(&format!("{DIRECTORY}/{name}/{file}")).unwrap_or_default();
            // A mouse has a battery too, with the scope of a device.
            read("type").trim() == "Battery" && read("scope").trim() != "Device"
        };
        let names: Vec<String> = files.list(DIRECTORY).into_iter().filter(is_battery).collect();
        (!names.is_empty()).then_some(Self { names })
    }

    /// The power in watts that the machine draws from its batteries; none while one is charged or none is used.
    pub(super) fn watts(&self, files: &dyn SensorFiles) -> Option<f64> {
        let mut sum = 0.0;
        for name in &self.names {
            let read = |file: &str| files.read(&format!("{DIRECTORY}/{name}/{file}"));
            let number = |file: &str| read(file).ok()?.trim().parse::<f64>().ok().map(f64::abs);
            match read("status").unwrap_or_default().trim() {
                "Discharging" => {
                    let product = || Some(number("current_now")? * number("voltage_now")? / 1e6);
                    // Microwatts, or microamperes times microvolts.
                    sum += number("power_now").or_else(product)? / 1e6;
                }
                "Charging" => return None,
                _ => {}
            }
        }
        (sum > 0.0).then_some(sum)
    }
}
