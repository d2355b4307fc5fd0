"""The search for better settings: many trainings of one study."""
