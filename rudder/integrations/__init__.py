"""Where Rudder meets other libraries. Nothing here imports them until the user does."""
