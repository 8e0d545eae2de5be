"""Certificates of convergence: a theorem's assumptions, proved or refuted for one network and its data.

    from proofs_check.certificates import kantorovich

    found = kantorovich(problem, theta, x, y, eta=1.0, rho=1.0)
    print(found)  # certified, refuted or undecided, with every assumption's two sides
    found.guarantee(5)  # of a certified one: upper bounds of |r_0|, ..., |r_5|

`check_certificate` proves one again, by other code than the one that made it.
"""

from .assess import Assessment, assess
from .certificate import Assumption, Certificate, Evidence, Instance, Settings
from .check import check_certificate
from .runs import a_posteriori
from .serialise import certificate_from_json, certificate_to_json
from .theorems import kantorovich, linear, unified
from .zhang import zhang_condition_1, zhang_condition_2

__all__ = [
    "Assessment",
    "Assumption",
    "Certificate",
    "Evidence",
    "Instance",
    "Settings",
    "a_posteriori",
    "assess",
    "certificate_from_json",
    "certificate_to_json",
    "check_certificate",
    "kantorovich",
    "linear",
    "unified",
    "zhang_condition_1",
    "zhang_condition_2",
]
