"Property-based tests assert results, never times."
from hypothesis import HealthCheck, settings

settings.register_profile('untimed', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('untimed')
