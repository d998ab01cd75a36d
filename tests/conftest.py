"Property-based tests assert results, never times. What is slow comes last."
from hypothesis import HealthCheck, settings

settings.register_profile('untimed', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('untimed')

def pytest_collection_modifyitems(items):
    for item in items:
        if 'pages' in item.fixturenames: item.add_marker('slow')       # the whole site, processed
    items.sort(key=lambda item: 'slow' in item.keywords)
