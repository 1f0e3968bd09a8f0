"""Makes codecarbon.json: what codecarbon 3.3.2 computes for memory, and for 60 s in its constant mode.

    pip install codecarbon==3.3.2 && python make_codecarbon.py > codecarbon.json
"""

import json
import logging
import time

logging.disable(logging.CRITICAL)

from codecarbon import OfflineEmissionsTracker
from codecarbon.core import cpu
from codecarbon.external.ram import RAM

SIZES_GIB = [
    0.5, 1, 2, 3, 4, 8, 12, 16, 23.5, 24, 32, 48, 64, 96, 128, 129, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096,
]
SECONDS = 60
DESIGN_WATTS = 8.0


def memory():
    x86, arm = RAM.__new__(RAM), RAM.__new__(RAM)
    x86.is_arm_cpu, arm.is_arm_cpu = False, True
    power = lambda ram, size: ram._calculate_ram_power(size)
    return [[size, x86._estimate_dimm_count(size), power(x86, size), power(arm, size)] for size in SIZES_GIB]


def constant_mode():
    # Where psutil works, codecarbon takes its load mode instead.
    cpu.is_psutil_available = lambda: False
    tracker = OfflineEmissionsTracker(
        country_iso_code="NLD",
        save_to_file=False,
        force_cpu_power=DESIGN_WATTS,
        measure_power_secs=1,
        log_level="critical",
    )
    tracker.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(0.2)
    tracker.stop()
    assert any(getattr(it, "_mode", "") == "constant" for it in tracker._hardware)
    data = tracker.final_emissions_data
    names = ["duration", "cpu_energy", "ram_energy", "energy_consumed", "emissions", "ram_total_size", "cpu_count"]
    return {"design_watts": DESIGN_WATTS} | {name: getattr(data, name) for name in names}


print(json.dumps({"version": "3.3.2", "memory": memory(), "constant": constant_mode()}))
