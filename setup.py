"""The extension modules and the course's notebooks; everything else about the package is in pyproject.toml.

Environment at build time:
    RCNN_REQUIRE_EXT=1   a kernel that cannot be compiled is an error; without it the package installs on NumPy alone
    RCNN_NO_EXT=1        no kernels are compiled
"""

import os
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, LinkError

NOTEBOOKS = Path("notebooks", "src")
KERNELS = ("_boxes", "_build", "_nms", "_roi")

# Kernels must round as written: no fused multiply-adds. -fno-trapping-math changes no value; it lets the compiler
# vectorise a conditional division.
FLAGS = {"unix": ["-O3", "-ffp-contract=off", "-fno-trapping-math"], "msvc": ["/O2", "/fp:precise"]}

# What to try, in order: flags for the compiler and for the linker. The second is Apple's clang with libomp.
OPENMP = {
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
OPENMP_PROGRAM = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildKernels(build_ext):
    """Compiles the kernels with the flags that the compiler at hand understands, and with OpenMP where it works."""

    def initialize_options(self):
        super().initialize_options()
        self.cython_c_in_temp = True  # generated C stays out of the source tree

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        compile_flags, link_flags = self.find_openmp(OPENMP[kind])
        for extension in self.extensions:
            extension.extra_compile_args = [*FLAGS[kind], *compile_flags]
            extension.extra_link_args = link_flags
        super().build_extensions()

    def find_openmp(self, candidates):
        """The first of `candidates` with which a program that calls OpenMP compiles and links, else no flags."""
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "openmp.c")
            source.write_text(OPENMP_PROGRAM)
            for compile_flags, link_flags in candidates:
                try:
                    objects = self.compiler.compile([str(source)], directory, extra_postargs=compile_flags)
                    self.compiler.link_executable(objects, str(source.with_suffix("")), extra_postargs=link_flags)
                except (CompileError, LinkError):
                    continue
                return compile_flags, link_flags
        print("rcnn: no OpenMP with this compiler; the kernels will run on one thread")
        return [], []


def extensions():
    """An extension for each kernel, which may fail to build unless RCNN_REQUIRE_EXT=1."""
    if os.environ.get("RCNN_NO_EXT") == "1":
        return []
    optional = os.environ.get("RCNN_REQUIRE_EXT") != "1"
    return [Extension(f"rcnn._ext.{name}", [f"rcnn/_ext/{name}.pyx"], optional=optional) for name in KERNELS]


class BuildPackage(build_py):
    """Puts the sources of the notebooks into the package, where `rcnn course export` finds them once installed."""

    def run(self):
        super().run()
        if not self.editable_mode:  # which reads them where they are
            target = Path(self.build_lib, "rcnn", "course", "src")
            self.mkpath(str(target))
            for source in sorted(NOTEBOOKS.glob("*.py")):
                self.copy_file(str(source), str(target / source.name))


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage})
