"""Which devices fit which profile, most specific first.

Made from the YAML files beside it by tools/compile_profiles.py: change those.
"""

from modelfleet_manifests.profiles.detection import Detect

PROFILES: dict[str, Detect] = {
    "jetson-orin-trt": Detect(jetson=["R35", "R36"], soc=["orin"]),
    "jetson-nano-cuda": Detect(jetson=["R32"]),
    "arm64-dotprod": Detect(arch=["aarch64"], cpu_all=["asimddp"]),
    "arm64": Detect(arch=["aarch64"]),
    "armv7": Detect(arch=["armv7l"]),
    "x86-vnni": Detect(
        arch=["x86_64"],
        cpu_any=["avx512_vnni", "avx_vnni"],
        cpu_none=["u8s8_saturates"],
    ),
    "x86-avx2": Detect(arch=["x86_64"], cpu_all=["avx2"]),
    "generic": Detect(),
}

# Artefacts for it are exported; no agent ever fits this profile.
EXPORT_ONLY = "microcontroller"
