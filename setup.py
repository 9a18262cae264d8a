"""Builds the kernels of whisq_core/csrc; all else is in pyproject.toml.

They are plain C that ctypes loads, without a word of Python: one wheel per platform serves every Python. A variant that
cannot be compiled is left out (`-mavx2` on arm64). Without a C compiler all are, the wheel is a pure one for any
platform, and PyTorch does the same, more slowly: `CC=false pip wheel .` builds that wheel anywhere.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("whisq_core/csrc")
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
VARIANTS = {"avx512": [*FLAGS, "-mavx512f", *AVX2], "avx2": [*FLAGS, *AVX2], "base": FLAGS}


class BuildKernels(build_ext):
    """Libraries under names that no version of Python is part of."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class Wheel(bdist_wheel):
    """A wheel for every Python 3: of this platform where it holds kernels, of any where it does not."""

    def get_tag(self) -> tuple[str, str, str]:
        self.root_is_pure = not any(Path(self.bdist_dir).glob("whisq_core/*.so"))
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            f"whisq_core._kernels_{variant}",
            sources=[str(SOURCES / "kernels.c")],
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            extra_compile_args=flags,
            optional=True,
        )
        for variant, flags in VARIANTS.items()
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
